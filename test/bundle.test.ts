import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import t from 'tap'
import { compile } from './support/compile.ts'
import type { BuildOptions } from 'esbuild'
import type { Test } from 'tap'

t.setTimeout(240_000) // where other work shares the cores

const MODULES = join(dirname(fileURLToPath(import.meta.resolve('fastify'))), '..')
const NEEDED = [
  '@fastify/cookie', '@fastify/secure-session', '@noble/ciphers', 'fastify', 'fastify-plugin', 'jose', 'openid-client',
  'sodium-native'
]
const ENTRY = `
  import Fastify from 'fastify'
  import oidc from './index.js'
  import { client, startProvider } from './lib/testing/index.js'

  const options = { baseUrl: 'https://app.example.com', allowInsecureLoopback: true, timeout: 60, clientId: 'web' }

  async function main () {
    const provider = await startProvider()
    const { issuer, clients: [{ client_secret: clientSecret }] } = provider
    const app = Fastify()
    await app.register(oidc, { ...options, issuer, clientSecret, session: { secret: 'x'.repeat(32) } })
    app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => oidcClaims.sub)
    const page = await client({ app, baseUrl: options.baseUrl }).goto('/me')
    const errors = []
    for (const store of ['redis://127.0.0.1', 'postgres://127.0.0.1']) {
      await Fastify().register(oidc, { ...options, issuer, clientSecret, store, session: { secret: 'x'.repeat(32) } })
        .then(() => {}, ({ message }) => errors.push(message))
    }
    console.log(JSON.stringify({ status: page.status, text: page.text(), errors }))
    await app.close()
    await provider.close()
  }
  main()
`

/** The package in a folder in which no optional package is installed. */
function install (t: Test): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'oidc-bundle-')))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const built = compile(t)
  for (const path of ['index.js', 'lib']) cpSync(join(built, path), join(folder, path), { recursive: true })
  for (const name of NEEDED) {
    mkdirSync(dirname(join(folder, 'node_modules', name)), { recursive: true })
    symlinkSync(join(MODULES, name), join(folder, 'node_modules', name))
  }
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  writeFileSync(join(folder, 'entry.js'), ENTRY)
  return folder
}

const formats: Record<string, BuildOptions> = {
  'bundle.cjs': { format: 'cjs' },
  'bundle.mjs': {
    format: 'esm',
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)" }
  }
}

t.test('K17 esbuild bundles the plugin where the optional packages are missing', async (t) => {
  const folder = install(t)
  for (const [name, format] of Object.entries(formats)) {
    await build({
      entryPoints: [join(folder, 'entry.js')],
      outfile: join(folder, name),
      bundle: true,
      platform: 'node',
      logLevel: 'silent',
      ...format
    })
  }
  rmSync(join(folder, 'node_modules'), { recursive: true }) // a bundle needs none
  for (const name of Object.keys(formats)) {
    const { stdout, stderr } = spawnSync(process.execPath, [name], { encoding: 'utf8', cwd: folder })
    t.same(JSON.parse(stdout || JSON.stringify(stderr)), {
      status: 200,
      text: 'alice',
      errors: ['"store" in Redis needs the package ioredis', '"store" in PostgreSQL needs the package pg']
    }, name)
  }
})
