import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import fc from 'fast-check'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../index.ts'
import { parseOptions } from '../lib/options/settings.ts'
import { createSealer } from '../lib/sealer.ts'
import { client, startProvider } from '../lib/testing/index.ts'
import { createSmallBox } from '../lib/util/small-box.ts'
import { BASE_URL, SESSION_KEY, optionsFor } from './support/app.ts'
import { compile } from './support/compile.ts'
import { captureLog } from './support/protocol.ts'
import { hideAddon, startProcess } from './support/processes.ts'
import { uniqueName } from './support/services.ts'
import { until } from './support/until.ts'
import { keyBytes, testKey } from './support/keys.ts'
import type { Test } from 'tap'
import type { Sealer } from '../lib/sealer.ts'
import type { Injectable } from '../lib/testing/index.ts'
import type { OidcOptions } from '../index.ts'

t.setTimeout(120_000) // where other work shares the cores

const BUILT = compile(t)

const options: OidcOptions = {
  issuer: 'https://id.example.com', clientId: 'web', baseUrl: BASE_URL, session: { key: SESSION_KEY }
}
const noAddon = async (): Promise<never> => { throw new Error("Cannot find addon '.'") }

async function sealers (
  t: Test,
  { session = options.session }: Partial<OidcOptions> = {}
): Promise<{ native: Sealer, portable: Sealer, lines: () => string }> {
  const { lines, server } = captureLog()
  const app = Fastify(server)
  t.teardown(async () => await app.close())
  const settings = parseOptions({ ...options, session })
  const native = await createSealer(app, settings)
  t.equal(lines(), '')
  const portable = await createSealer(app, settings, noAddon)
  await app.ready()
  return { native, portable, lines }
}

t.test('K10 without the addon, values are sealed in the same format', async (t) => {
  const { native, portable, lines } = await sealers(t)
  for (const content of [null, 0, '', 'é😀\u0000', { a: [1, { b: false }] }, 'x'.repeat(20_000), undefined]) {
    for (const [from, to] of [[native, portable], [portable, native], [portable, portable]] as const) {
      const sealed = from.seal('session', content)
      t.same(to.open('session', sealed), { content, rotated: false })
      t.equal(to.open('tokens', sealed), null, 'another purpose does not open it')
      const bytes = Buffer.from(String(content))
      t.same(to.openBytes('token-bytes', from.sealBytes('token-bytes', bytes)), bytes)
    }
  }
  t.equal(
    portable.setCookie('a', 'b', { maxAge: 1, sameSite: 'lax' }),
    native.setCookie('a', 'b', { maxAge: 1, sameSite: 'lax' })
  )
  t.equal(lines().match(/cookies are encrypted in JavaScript/g)?.length, 1, 'said once')
  t.match(lines(), "Cannot find addon '.'", 'with the reason')
  t.throws(() => portable.seal('session', { big: 1n }), TypeError, 'as with the addon')
  t.throws(() => native.seal('session', { big: 1n }), TypeError)
})

t.test('K10 without the addon, an older key opens as well', async (t) => {
  const other = testKey(9)
  const before = await sealers(t)
  const after = await sealers(t, { session: { key: [other, SESSION_KEY] } })
  const stranger = await sealers(t, { session: { key: other } })
  for (const sealed of [before.native.seal('store', 1), before.portable.seal('store', 1)]) {
    t.same(after.portable.open('store', sealed), { content: 1, rotated: true })
    t.same(after.native.open('store', sealed), { content: 1, rotated: true })
    t.equal(stranger.portable.open('store', sealed), null)
  }
  for (const sealed of [before.native, before.portable].map((sealer) => sealer.sealBytes('store', Buffer.from('1')))) {
    for (const sealer of [after.portable, after.native]) t.same(sealer.openBytes('store', sealed), Buffer.from('1'))
    t.equal(stranger.portable.openBytes('store', sealed), null)
  }
})

t.test('K10 V15 with and without the addon, the same texts open', async (t) => {
  const { native, portable } = await sealers(t)
  const sealed = native.seal('session', { sub: 'alice' })
  const changed = fc.tuple(fc.nat(sealed.length), fc.nat(3), fc.constantFrom(...'A+/=.;%0 é')).map(([at, cut, put]) =>
    sealed.slice(0, at) + put + sealed.slice(at + cut)
  )
  const text = fc.oneof(changed, fc.string(), fc.base64String(), fc.constant(sealed))
  fc.assert(fc.property(text, (value) => {
    const opened = portable.open('session', value)
    t.same(opened, native.open('session', value))
    return value === sealed ? opened !== null : opened === null
  }), { numRuns: 2000 })
  for (const value of ['', '.', sealed.replace('.', ';'), `.${sealed.split('.')[1]}`, `AAAA.${'A'.repeat(32)}`]) {
    t.same([portable.open('session', value), native.open('session', value)], [null, null], JSON.stringify(value))
  }
})

t.test('S37 a small value opens under its name only, and unchanged, with each key', async (t) => {
  const content = { sub: 'alice', tokens: { access_token: randomBytes(768).toString('base64url'), text: 'é😀\u0000' } }
  const [before, after, stranger] = [[1], [2, 1], [3]].map((seeds) => createSmallBox(seeds.map(keyBytes)))
  const sealed = before?.seal('alice', content) as string
  t.same(before?.open('alice', sealed), { content, rotated: false })
  t.same(after?.open('alice', sealed), { content, rotated: true })
  t.same([before?.open('bob', sealed), stranger?.open('alice', sealed)], [null, null])
  t.not(before?.seal('alice', content), sealed, 'the nonce is another each time')
  t.ok(sealed.length < JSON.stringify(content).length * 0.85, `${sealed.length} bytes`)
  t.ok([...sealed].every((char) => char <= '\u00ff'))
  const changed = fc.tuple(fc.nat(sealed.length), fc.nat(3), fc.constantFrom('', ...'A+/=.\u0000\u00ff')).map(([at, cut, put]) =>
    sealed.slice(0, at) + put + sealed.slice(at + cut)
  )
  fc.assert(fc.property(fc.oneof(changed, fc.string()), (value) => {
    return (before?.open('alice', value) === null) === (value !== sealed)
  }), { numRuns: 1000 })
  for (let end = 0; end < 40; end++) t.equal(before?.open('alice', sealed.slice(0, end)), null)
  for (const content of [null, 0, true, '', [], undefined]) {
    t.same(before?.open('x', before.seal('x', content)), { content, rotated: false })
  }
})

t.test('K10 a login is one in a cluster of which one process has no addon', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const addonHidden = hideAddon(t)
  const script = join(BUILT, 'test/support/process.js')
  const debian = await startProcess(t, script)
  const alpine = await startProcess(t, script, ['--require', addonHidden])
  const all = optionsFor(provider, { offlineAccess: true, session: { key: SESSION_KEY, cookieName: uniqueName() } })
  const apps = [await debian.build(all), await alpine.build(all)] as const
  // What a process writes may come later than its answers.
  await until(() => alpine.output().includes('encrypted in JavaScript'))

  for (const [one, two] of [apps, [...apps].reverse()] as const) {
    let count = 0
    // Each request of the login goes to the other process.
    const inject = async (request: never): Promise<unknown> => await (count++ % 2 === 0 ? one : two)?.inject(request)
    const browser = client({ app: { inject } as Injectable, baseUrl: BASE_URL })
    t.match((await browser.goto('/me')).json(), { sub: 'alice' })
    for (let turn = 0; turn < 4; turn++) {
      t.match((await browser.goto('/token')).json(), { token: /./ }, 'the tokens open in both')
    }
    t.equal((await browser.fetch('/me')).status, 200)
  }
  t.notMatch(debian.output(), 'encrypted in JavaScript')
  t.equal(alpine.output().match(/encrypted in JavaScript/g)?.length, 1, 'the log says it once')
})

t.test('K10 a bundle runs without the addon', async (t) => {
  const folder = t.testdir()
  const entry = join(folder, 'entry.mjs')
  writeFileSync(entry, `
    import Fastify from ${JSON.stringify(import.meta.resolve('fastify').replace('file://', ''))}
    import oidc from ${JSON.stringify(join(BUILT, 'index.js'))}
    const lines = []
    const app = Fastify({ logger: { level: 'warn', stream: { write: (line) => lines.push(line) } } })
    app.register(oidc, ${JSON.stringify({ ...options, discovery: 'lazy' })})
    app.ready().then(() => app.inject('/auth/session')).then(({ statusCode }) => {
      console.log(JSON.stringify({ statusCode, lines: lines.length, text: lines.join('') }))
    })
  `)
  const outfile = join(folder, 'bundle.cjs')
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    logLevel: 'silent',
    external: ['pg', 'ioredis', 'better-sqlite3', '@opentelemetry/api']
  })
  const { stdout, stderr } = spawnSync(process.execPath, [outfile], { encoding: 'utf8', cwd: folder })
  t.match(JSON.parse(stdout || JSON.stringify(stderr)), { statusCode: 401, lines: 1, text: /encrypted in JavaScript/ })
})

t.test('K10 after app.after, a registration that is awaited is complete', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  app.after(() => app.get('/early', async () => 'early'))
  await app.register(oidc, optionsFor(provider))
  app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
  const browser = client({ app, baseUrl: BASE_URL })
  t.match((await browser.goto('/me')).json(), { sub: 'alice' })
  t.equal((await app.inject('/early')).body, 'early')
  t.equal((await browser.goto('/early')).status, 200)
})

t.test('K10 the same without await, and with a plugin before', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  app.register(async (scope) => { scope.get('/other', async () => 'other') })
  app.after(() => app.get('/early', async () => 'early'))
  app.register(oidc, optionsFor(provider))
  app.register(async (scope) => {
    scope.get('/me', { preHandler: scope.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
  })
  t.match((await client({ app, baseUrl: BASE_URL }).goto('/me')).json(), { sub: 'alice' })
})
