import neostandard from 'neostandard'

export default [
  ...neostandard({ ts: true, ignores: ['dist', '.tap', 'node_modules'] }),
  // Parameters and claims are written as on the wire.
  { rules: { camelcase: 'off' } }
]
