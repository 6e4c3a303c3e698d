import neostandard from 'neostandard'

const maxLength = {
  code: 120,
  ignoreUrls: true,
  ignoreStrings: true,
  ignoreTemplateLiterals: true,
  ignoreRegExpLiterals: true
}

export default [
  ...neostandard({ ts: true, ignores: ['dist', '.tap', 'node_modules'] }),
  // Parameters and claims are written as on the wire.
  { rules: { camelcase: 'off', '@stylistic/max-len': ['error', maxLength] } }
]
