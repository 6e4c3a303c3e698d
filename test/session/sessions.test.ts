import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import zlib from 'node:zlib'
import t from 'tap'
import fc from 'fast-check'
import Fastify from 'fastify'
import { cookieNames, readCookie } from '../../lib/http/cookies.ts'
import { partsOf } from '../../lib/decorator.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { createSealer } from '../../lib/sealer.ts'
import { packTokens, unpackTokens } from '../../lib/session/packed-tokens.ts'
import { createSessionCookies } from '../../lib/session/session-cookies.ts'
import { createProviders } from '../../lib/provider/providers.ts'
import { createEndedSessions } from '../../lib/session/ended-sessions.ts'
import { createSessions } from '../../lib/session/sessions.ts'
import { client, faults, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, logIn, optionsFor, SESSION_KEY, startApp, stopClock, silentLog } from '../support/app.ts'
import { keyBytes, testKey } from '../support/keys.ts'
import type { FastifyInstance, FastifyRequest, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions, OidcTokens, SessionOptions } from '../../index.ts'
import type { SessionCookies } from '../../lib/session/session-cookies.ts'
import type { Settings } from '../../lib/options/settings.ts'
import type { Opened } from '../../lib/sealer.ts'
import type { Session, SessionTokens } from '../../lib/session/session.ts'
import type { TestBrowser } from '../../lib/testing/index.ts'

const NAME = '__Host-oidc'
const TOKENS = '__Host-oidc-tokens-0'
const HOUR = 3600
/** No other registration shares the budget. */
const alone = ({ session: { cookieName } }: Settings) => ({
  nameFor: () => cookieName,
  read: () => ({ own: [], others: [], budget: 7000, isFull: false })
})
const NEW_KEY = testKey(9)

function setCookiesOf ({ headers }: LightMyRequestResponse): string[] {
  return [headers['set-cookie'] ?? []].flat()
}

function namesOf (setCookies: string[]): string[] {
  return setCookies.map((line) => line.split('=', 1)[0] as string)
}

async function get (app: FastifyInstance, url: string, cookie: string): Promise<LightMyRequestResponse> {
  return await app.inject({ url, headers: { cookie } })
}

async function statusOf (app: FastifyInstance, url: string, cookie: string): Promise<number> {
  return (await get(app, url, cookie)).statusCode
}

/** With any of these cookies the request is anonymous. `removed`: a cookie that a key opens does not stay. */
async function anonymous (
  t: Test,
  app: FastifyInstance,
  cookie: string,
  message: string,
  removed: string[] = []
): Promise<void> {
  const [me, maybe, session] = [
    await get(app, '/me', cookie),
    await get(app, '/maybe', cookie),
    await get(app, '/auth/session', cookie)
  ]
  t.match([me.statusCode, me.json().code], [401, 'FST_OIDC_LOGIN_REQUIRED'], message)
  t.match([maybe.statusCode, maybe.json()], [200, { claims: null }], message)
  t.equal(session.statusCode, 401, message)
  for (const response of [me, maybe, session]) {
    t.same(setCookiesOf(response).sort(), removed.map(removal).sort(), message)
  }
}

function removal (name: string): string {
  return `${name}=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax`
}

/** The same cookies in a browser of another application. */
function moveTo (app: FastifyInstance, { cookies }: TestBrowser): TestBrowser {
  const browser = client({ app, baseUrl: BASE_URL })
  for (const { name, value } of cookies.list('/')) browser.cookies.set(name, value)
  return browser
}

/** Replaces the base64 character at that place. */
function flip (value: string, at: number): string {
  const other = value[at] === 'A' ? 'B' : 'A'
  return value.slice(0, at) + other + value.slice(at + 1)
}

function valueOf ({ cookies }: TestBrowser, name = NAME): string {
  return cookies.get(name) as string
}

t.test('S35 V21 the cookies of a session', async (t) => {
  const cases: Array<[title: string, options: Partial<OidcOptions>, names: string[], attributes: string]> = [
    ['https', {}, ['__Host-oidc', '__Host-oidc-tokens-0'], 'Max-Age=28800; Path=/; HttpOnly; Secure; SameSite=Lax'],
    [
      'none',
      { session: { key: SESSION_KEY, sameSite: 'none', maxAge: 60 } },
      ['__Host-oidc', '__Host-oidc-tokens-0'],
      'Max-Age=60; Path=/; HttpOnly; Secure; SameSite=None'
    ],
    [
      'a name and no tokens',
      { session: { key: SESSION_KEY, cookieName: 'my.app', tokens: [] } },
      ['__Host-my.app'],
      'Max-Age=28800; Path=/; HttpOnly; Secure; SameSite=Lax'
    ],
    [
      'http on loopback',
      { baseUrl: 'http://localhost:3000' },
      ['oidc-3000', 'oidc-3000-tokens-0'],
      'Max-Age=28800; Path=/; HttpOnly; SameSite=Lax'
    ]
  ]
  for (const [title, options, names, attributes] of cases) {
    const { browser } = await startApp(t, options)
    const page = await browser.goto('/auth/login?return_to=/me', {
      headers: {
        'x-forwarded-proto': title === 'https' ? 'http' : 'https',
        'x-forwarded-host': 'evil.example',
        forwarded: 'proto=http;host=evil.example'
      }
    })
    t.equal(page.status, 200, title)
    const lines = page.history
      .flatMap(({ setCookie }) => setCookie)
      .filter((line) => names.includes(line.split('=', 1)[0] as string))
    t.same(namesOf(lines), names, title)
    for (const line of lines) {
      t.equal(line.slice(line.indexOf('; ') + 2), attributes, `${title}: no other attribute, above all no Domain`)
    }
    t.match(
      lines.map((line) => line.slice(0, line.indexOf(';'))),
      lines.map(() => /^[\w.-]+=[A-Za-z0-9+/=.]+$/),
      `${title}: nothing that needs an encoding`
    )
    t.same(browser.cookies.refused, [], title)
  }
})

t.test('S35 with SameSite=Strict a login still ends on the page, logged in', async (t) => {
  const { app, browser } = await startApp(t, { session: { key: SESSION_KEY, sameSite: 'strict' } })
  const page = await browser.goto('/auth/login?return_to=/me', { from: 'https://elsewhere.example.net/' })
  t.equal(page.status, 200)
  t.equal(page.json().claims.sub, 'alice')
  t.ok(
    browser.cookies
      .list('/')
      .filter(({ name }) => !name.includes('-login-'))
      .every(({ sameSite }) => sameSite === 'strict')
  )
  const foreign = await browser.goto('/me', { from: 'https://elsewhere.example.net/', until: () => true })
  t.equal(foreign.status, 302, 'a link on another site does not bring the session along')
  t.equal((await app.inject('/me')).statusCode, 401)
})

t.test('S36 V9 V10 a login makes a new session id, and ends the session before it', async (t) => {
  const ended: unknown[] = []
  const { app, provider } = await startApp(t, {
    onLogout: (session, { reason }) => {
      ended.push([session.id, reason])
    }
  })
  const attacker = await logIn({ app, provider }, 'mallory')
  const planted = attacker.cookies.header('/')
  const [{ session: before }] = [(await attacker.goto('/me')).json()]

  // The attacker plants a cookie of his own session in the victim's browser.
  const victim = moveTo(app, attacker)
  provider.options.approve = () => 'alice'
  t.equal((await victim.goto('/auth/login?return_to=/me')).json().claims.sub, 'alice')
  const after = (await victim.goto('/me')).json()
  t.equal(after.claims.sub, 'alice')
  t.not(after.session.id, before.id)
  t.not(valueOf(victim), valueOf(attacker))
  t.same(ended, [[before.id, 'login']], 'and the application hears of it')

  t.equal(await statusOf(app, '/me', planted), 401, 'the planted cookie is dead, in the attacker\'s browser too')
  t.equal((await victim.goto('/me')).json().claims.sub, 'alice')

  t.equal((await victim.goto('/auth/login?return_to=/me')).json().claims.sub, 'alice')
  t.not((await victim.goto('/me')).json().session.id, after.session.id, 'the same person again: a new identity again')
})

t.test('S37 V28 a sealed cookie shows no content, and no two are equal', async (t) => {
  const { sealer } = await parts(t)
  const secret = { claims: { sub: 'alice' }, marker: 'plaintext-marker' }
  const sealed = Array.from({ length: 50 }, () => sealer.seal('session', secret))
  t.equal(new Set(sealed).size, 50)
  t.equal(new Set(sealed.map((value) => value.slice(-32))).size, 50, 'a nonce is never used twice')
  for (const value of sealed) {
    t.same(sealer.open('session', value), { content: secret, rotated: false })
    t.notMatch(Buffer.from(value, 'base64').toString('latin1'), /plaintext-marker|alice/)
  }
})

t.test('S37 V28 a cookie sealed for one purpose is refused for another', async (t) => {
  const { sealer } = await parts(t)
  const purposes = ['session', 'tokens', 'token-bytes', 'login', 'logout'] as const
  for (const purpose of purposes) {
    const bytes = sealer.sealBytes(purpose, Buffer.from(purpose))
    t.same(purposes.filter((other) => sealer.openBytes(other, bytes) !== null), [purpose])
    t.same(purposes.filter((other) => sealer.open(other, bytes) !== null), [], 'nor as text')
    const sealed = sealer.seal(purpose, { purpose })
    t.same(
      purposes.filter((other) => sealer.open(other, sealed) !== null),
      [purpose],
      'each purpose has a key of its own'
    )
  }

  const { app, provider, browser } = await startApp(t)
  app.get('/token', async (request) => await app.oidc.accessToken(request))
  const waiting = await browser.goto('/auth/login', { until: ({ pathname }) => pathname === '/authorize' })
  const pending = browser.cookies.list('/').find(({ name }) => name.includes('-login-'))
  t.ok(pending)
  const { cookies } = await logIn({ app, provider }, 'alice')
  const leaving = await moveTo(app, { cookies } as TestBrowser).post('/auth/logout', '', {
    until: ({ pathname }) => pathname === '/end-session'
  })
  const state = leaving.form?.action.searchParams.get('state') as string
  const values = { login: pending?.value as string, tokens: cookies.get(TOKENS) as string, logout: state }
  for (const [purpose, value] of Object.entries(values)) {
    await anonymous(t, app, `${NAME}=${value}`, `${purpose} as session`)
  }

  const alice = await logIn({ app, provider }, 'alice')
  const session = valueOf(alice)
  for (const value of [session, values.login, values.logout]) {
    t.equal(await statusOf(app, '/token', `${NAME}=${session}; ${TOKENS}=${value}`), 401, 'as tokens')
  }
  const callback = new URL(
    (await browser.goto(waiting.location as string, { until: ({ pathname }) => pathname === '/auth/callback' }))
      .location as string
  )
  for (const value of [session, cookies.get(TOKENS), values.logout]) {
    const response = await get(app, callback.pathname + callback.search, `${pending?.name}=${value}`)
    t.match([response.statusCode, response.json().code], [400, 'FST_OIDC_STATE'], 'as a pending login')
  }
  for (const value of [session, cookies.get(TOKENS) as string, values.login]) {
    const response = await get(app, `/auth/logged-out?state=${encodeURIComponent(value)}`, '')
    t.equal(response.headers.location, `${BASE_URL}/`, 'as the state of a logout')
  }
})

t.test('S38 R23 a change of any byte of a cookie is refused', async (t) => {
  const { app, provider } = await startApp(t, { claims: [], session: { key: SESSION_KEY, tokens: ['access_token'] } })
  app.get('/token', async (request) => await app.oidc.accessToken(request))
  const browser = await logIn({ app, provider }, 'alice')
  const [session, tokens] = [valueOf(browser), valueOf(browser, TOKENS)]
  t.equal(await statusOf(app, '/token', `${NAME}=${session}; ${TOKENS}=${tokens}`), 200, 'untouched, they are good')

  const passed: string[] = []
  for (let at = 0; at < session.length; at++) {
    if (await statusOf(app, '/me', `${NAME}=${flip(session, at)}`) !== 401) passed.push(`session, byte ${at}`)
  }
  for (let at = 0; at < tokens.length; at++) {
    if ((await statusOf(app, '/token', `${NAME}=${session}; ${TOKENS}=${flip(tokens, at)}`)) !== 401) {
      passed.push(`tokens, byte ${at}`)
    }
  }
  t.same(passed, [])

  for (const length of [0, 1, 32, 33, 34, Math.floor(session.length / 2), session.length - 33, session.length - 1]) {
    await anonymous(t, app, `${NAME}=${session.slice(0, length)}`, `the first ${length}`)
    await anonymous(t, app, `${NAME}=${session.slice(-length - 1, -1)}`, `${length} of the end`)
  }
  const [cipher, nonce] = session.split('.') as [string, string]
  for (const value of [
    `${session}A`,
    `A${session}`,
    `${session}.`,
    `${session}=`,
    `"${session}"`,
    encodeURIComponent(session.replace('.', ';')),
    `${cipher}.`,
    `.${nonce}`,
    `${nonce}.${cipher}`,
    `${cipher}..${nonce}`,
    `${cipher}.${nonce}.${nonce}`,
    `${cipher} .${nonce}`,
    `${cipher}%2e${nonce}`,
    '.',
    'é',
    '\u0000',
    '%00',
    'null',
    '{}'
  ]) {
    await anonymous(t, app, `${NAME}=${value}`, JSON.stringify(value.slice(0, 20)))
  }
})

t.test('R23 the spelling of base64 is checked too: one session, one cookie value', async (t) => {
  const { sealer } = await parts(t)
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
  const paddings = new Set<number>()
  for (const text of ['', 'a', 'ab']) {
    const sealed = sealer.seal('session', { text })
    const [cipher, nonce] = sealed.split('.') as [string, string]
    const padding = cipher.length - cipher.replaceAll('=', '').length
    paddings.add(padding)
    const last = cipher.length - padding - 1
    const others = [...alphabet]
      .map((letter) => cipher.slice(0, last) + letter + cipher.slice(last + 1))
      .filter((other) => other !== cipher)
    for (const other of [...others, cipher.replaceAll('=', '') + (padding === 0 ? '=' : ''), `${cipher}====`]) {
      t.equal(sealer.open('session', `${other}.${nonce}`), null)
    }
    t.ok(sealer.open('session', sealed))
  }
  t.same([...paddings].sort(), [0, 1, 2])
})

t.test('R23 S47 cookies of another session, and older cookies of the same session, are not combined', async (t) => {
  const { app, provider } = await startApp(t, { offlineAccess: true, claims: ['email'] })
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => ({
    sub: request.oidcClaims?.sub,
    token: await app.oidc.accessToken(request)
  }))
  provider.fault({ on: 'token', idToken: ({ at_hash: _, ...claims }) => claims, tokenResponse: enlargeAccessToken })
  const [alice, bob] = [await logIn({ app, provider }, 'alice'), await logIn({ app, provider }, 'bob')]
  const of = (browser: TestBrowser): [string, string, string] => [
    valueOf(browser),
    valueOf(browser, TOKENS),
    valueOf(browser, '__Host-oidc-tokens-1')
  ]
  const header = (session: string, ...chunks: Array<string | undefined>): string =>
    [`${NAME}=${session}`, ...chunks.map((chunk, index) => `__Host-oidc-tokens-${index}=${chunk ?? ''}`)].join('; ')
  const [[a, a0, a1], [b, b0, b1]] = [of(alice), of(bob)]
  const good = (await get(app, '/token', header(a, a0, a1))).json()
  t.equal(good.sub, 'alice')
  t.equal((await get(app, '/token', header(b, b0, b1))).json().sub, 'bob')
  t.not((await get(app, '/token', header(b, b0, b1))).json().token, good.token)
  t.same(
    (await get(app, '/token', `__Host-oidc-tokens-1=${a1}; ${TOKENS}=${a0}; ${NAME}=${a}`)).json(),
    good,
    'the order in the header does not matter'
  )
  for (const left of [b1, a1, 'x', '']) {
    t.same((await get(app, '/token', header(a, a0, a1, left))).json(), good, 'nor does a chunk that was left over')
  }

  const mixes: Array<[string, string]> = [
    ["all of bob's tokens", header(a, b0, b1)],
    ["one chunk of bob's", header(a, a0, b1)],
    ['another', header(a, b0, a1)],
    ['swapped', header(a, a1, a0)],
    ['the first alone', header(a, a0)],
    ['the second missing', header(a, a0, undefined)],
    ['the first twice', header(a, a0, a0)],
    ['none', header(a)],
    ['numbers that are none', `${NAME}=${a}; __Host-oidc-tokens-00=${a0}; __Host-oidc-tokens-01=${a1}`]
  ]
  for (const [title, cookie] of mixes) {
    const response = await get(app, '/token', cookie)
    t.match([response.statusCode, response.json().code], [401, 'FST_OIDC_LOGIN_REQUIRED'], title)
    t.equal((await get(app, '/me', cookie)).json().claims.sub, 'alice', `${title}: the user is known`)
  }

  const clock = stopClock(t)
  clock.advance(3590)
  t.equal((await alice.goto('/token')).status, 200)
  const [a2, t0, t1] = of(alice)
  t.not(a2, a)
  t.equal(await statusOf(app, '/token', header(a2, t0, t1)), 200)
  for (const cookie of [header(a2, a0, a1), header(a2, a0, t1), header(a2, t0, a1)]) {
    t.equal(
      await statusOf(app, '/token', cookie),
      401,
      'tokens from before the refresh do not go with the session after it'
    )
  }
  t.equal(
    await statusOf(app, '/token', header(a, t0, t1)),
    200,
    'but a request that was on the way may have written the session after the tokens'
  )
})

t.test('R23 the session of another application with the same key is refused', async (t) => {
  const { app, provider } = await startApp(t)
  const other = await startProvider()
  t.teardown(async () => await other.close())
  const value = valueOf(await logIn({ app, provider }, 'alice'))
  const twin = await buildApp(t, optionsFor(provider))
  t.equal(await statusOf(twin, '/me', `${NAME}=${value}`), 200, 'two processes of one application share their sessions')
  const strangers: Array<Partial<OidcOptions>> = [
    { clientId: 'another' },
    { issuer: other.issuer },
    { baseUrl: 'https://other.example.com' },
    { baseUrl: `${BASE_URL}/other` },
    { session: { key: NEW_KEY } },
    { session: { secret: SESSION_KEY } }
  ]
  for (const options of strangers) {
    const app = await buildApp(t, optionsFor(provider, options))
    const isForeign = 'clientId' in options || 'issuer' in options
    await anonymous(t, app, `${NAME}=${value}`, JSON.stringify(options), isForeign ? [NAME] : [])
  }
  const renamed = await buildApp(t, optionsFor(provider, { session: { key: SESSION_KEY, cookieName: 'other' } }))
  await anonymous(t, renamed, `__Host-other=${value}`, 'another name')
})

t.test('R23 V25 R19 unusual Cookie headers', async (t) => {
  const { app, provider } = await startApp(t)
  const value = valueOf(await logIn({ app, provider }, 'alice'))
  const good = `${NAME}=${value}`
  for (const cookie of [
    good,
    `  ${good}  `,
    `;;; ;${good};;`,
    `a=1;${good};b=2`,
    `a=1;   ${good}   ; b`,
    `__proto__=1; constructor=2; ${good}`,
    `${good}; ${NAME}=x`,
    `${NAME}x=1; x${NAME}=1; ${good}`,
    `=; =x; ${good}`,
    `${NAME}; ${good}`,
    `${good}; a="${NAME}=x"`
  ]) {
    t.equal((await get(app, '/me', cookie)).json().claims?.sub, 'alice', JSON.stringify(cookie.replace(value, 'value')))
  }
  // The first cookie of a name counts, as it is the one of the more specific path.
  await anonymous(t, app, `${NAME}=x; ${good}`, 'twice, the first is wrong')
  for (const cookie of [
    `x="${good}"`,
    `x=${good}`,
    `x${good}`,
    `x=1 ${good}`,
    `x=1, ${good}`,
    `=${good}`,
    `x==${good}`,
    `\t${good}`,
    `x=1;\u00a0${good}`,
    `${NAME} =${value}`,
    `${NAME.toLowerCase()}=${value}`,
    `${NAME}`,
    `${NAME}-tokens-0`,
    '',
    ';',
    '; ;',
    '=',
    `${NAME}x=${value}`
  ]) {
    await anonymous(t, app, cookie, JSON.stringify(cookie.replace(value, 'value')), [])
  }

  const numbers = ['99999999', '-1', '1e9', '01', '0x1', '', '__proto__', 'NaN', '0 0', '\u0001', 'é', '"', 'a/b']
  const planted = numbers.map((number) => `${NAME}-tokens-${number}=x`).join('; ')
  t.equal((await get(app, '/me', `${good}; ${planted}`)).json().claims.sub, 'alice')
  await anonymous(t, app, `${NAME}=x; ${planted}`, 'planted chunks')

  const many = Array.from({ length: 500 }, (_, index) => `${NAME}-tokens-${index}=`).join('; ')
  t.equal((await get(app, '/me', `${good}; ${many}`)).json().claims.sub, 'alice')
})

t.test('R35 the cookie parser agrees with a simple one', async (t) => {
  const fragment = fc.constantFrom('n', 'nn', 'n-1', 'n-2', '=', ';', ' ', '"', 'v', '\t', ',', '__proto__', '\u00e9')
  const plainRead = (header: string, name: string): string | undefined =>
    header
      .split(';')
      .map((pair) => pair.replace(/^ +/, '').trimEnd())
      .find((pair) => pair.startsWith(`${name}=`))
      ?.slice(name.length + 1)
  fc.assert(
    fc.property(fc.array(fragment, { maxLength: 25 }), (fragments) => {
      const header = fragments.join('')
      const names = cookieNames(header, 'n-')
      return (
        readCookie(header, 'n') === plainRead(header, 'n') &&
        names.every((name) => /^n-[^\s;="]*$/.test(name)) &&
        new Set(names).size === names.length
      )
    }),
    { numRuns: 300 }
  )
  t.equal(readCookie(undefined, 'n'), undefined)
  t.same(cookieNames(undefined, 'n'), [])
})

t.test('R35 no random Cookie header makes an error or a session', async (t) => {
  const { app, provider } = await startApp(t)
  const value = valueOf(await logIn({ app, provider }, 'alice'))
  const name = fc.oneof(
    fc.constantFrom(NAME, TOKENS, `${NAME}-login-0`, `${NAME}-tokens-`, '__proto__', ''),
    fc.string({ maxLength: 12 })
  )
  const content = fc.oneof(
    fc.string({ maxLength: 80 }),
    fc.nat(value.length - 1).map((at) => flip(value, at)),
    fc.nat(value.length - 1).map((at) => value.slice(0, at))
  )
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(name, content), { maxLength: 8 }), async (pairs) => {
      const cookie = pairs.map((pair) => pair.join('=')).join('; ')
      return (await statusOf(app, '/me', cookie)) === 401 && (await statusOf(app, '/maybe', cookie)) === 200
    }),
    { numRuns: 150 }
  )
})

t.test('S38 V15 a session ends by the clock of the server', async (t) => {
  const clock = stopClock(t)

  await t.test('after idleTimeout without a guarded request', async (t) => {
    const { app, provider } = await startApp(t)
    const cookie = `${NAME}=${valueOf(await logIn({ app, provider }, 'alice'))}`
    clock.advance(359)
    t.same(setCookiesOf(await get(app, '/me', cookie)), [], 'not written with each request')
    clock.advance(1)
    const response = await get(app, '/me', cookie)
    t.same(namesOf(setCookiesOf(response)), [NAME], 'the tokens are not written again')
    t.match(setCookiesOf(response)[0], /; Max-Age=28440; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
    const newer = (setCookiesOf(response)[0] as string).split(';')[0] as string
    clock.advance(HOUR - 361)
    t.equal(await statusOf(app, '/me', cookie), 200, 'the last second')
    clock.advance(1)
    await anonymous(t, app, cookie, 'the old cookie, in a browser that kept it beyond its Max-Age', [NAME])
    t.equal(await statusOf(app, '/me', newer), 200, 'the newer one has 360 seconds more')
    clock.advance(360)
    await anonymous(t, app, newer, 'and not one second longer', [NAME])
  })

  await t.test('after maxAge, however busy it is', async (t) => {
    const { app, provider } = await startApp(t)
    const browser = await logIn({ app, provider }, 'alice')
    const { session: { expiresAt, loginTime } } = (await browser.goto('/me')).json()
    t.equal(expiresAt - loginTime, 8 * HOUR)
    for (let time = 0; time < 28; time++) {
      clock.advance(1000)
      const { session } = (await browser.goto('/me')).json()
      t.same([session.expiresAt, session.loginTime], [expiresAt, loginTime])
    }
    clock.advance(799)
    const kept = browser.cookies.header('/')
    t.equal(await statusOf(app, '/me', kept), 200)
    clock.advance(1)
    await anonymous(t, app, kept, 'the newest cookie', [NAME, TOKENS])
    t.notMatch(browser.cookies.header('/'), `${NAME}=`, 'the browser has let go of it too')
  })

  await t.test('a request to the session endpoint does not prolong it', async (t) => {
    const { app, provider } = await startApp(t)
    const browser = await logIn({ app, provider }, 'alice')
    for (const seconds of [1799, 1800]) {
      clock.advance(seconds)
      const response = await get(app, '/auth/session', browser.cookies.header('/'))
      t.equal(response.statusCode, 200)
      t.same(setCookiesOf(response), [])
    }
    clock.advance(1)
    t.equal((await browser.goto('/auth/session')).status, 401)
    t.equal((await browser.goto('/me', { until: () => true })).status, 302)
  })

  await t.test('when its time is in the future', async (t) => {
    const { app, provider } = await startApp(t)
    const cookie = `${NAME}=${valueOf(await logIn({ app, provider }, 'alice'))}`
    clock.advance(-60)
    t.equal(await statusOf(app, '/me', cookie), 200, 'the clocks of two processes differ a little')
    clock.advance(-1)
    await anonymous(t, app, cookie, 'a minute and more', [])
    clock.advance(61)
    t.equal(await statusOf(app, '/me', cookie), 200)
  })

  await t.test('when the application was started again with shorter times', async (t) => {
    const { app, provider } = await startApp(t)
    const cookie = `${NAME}=${valueOf(await logIn({ app, provider }, 'alice'))}`
    const strict = await buildApp(t, optionsFor(provider, { session: { key: SESSION_KEY, maxAge: 100 } }))
    const idle = await buildApp(t, optionsFor(provider, { session: { key: SESSION_KEY, idleTimeout: 50 } }))
    const long = await buildApp(
      t,
      optionsFor(provider, { session: { key: SESSION_KEY, maxAge: 86_400, idleTimeout: 86_400 } })
    )
    clock.advance(49)
    t.equal(await statusOf(idle, '/me', cookie), 200)
    clock.advance(1)
    await anonymous(t, idle, cookie, 'idle', [NAME])
    clock.advance(49)
    t.equal(await statusOf(strict, '/me', cookie), 200)
    clock.advance(1)
    await anonymous(t, strict, cookie, 'at its end', [NAME])
    clock.advance(8 * HOUR - 100)
    await anonymous(t, long, cookie, 'but longer times do not prolong what was promised at login', [NAME])
  })
})

t.test('S39 V15 the cookie of an ended session is refused', async (t) => {
  const { app, provider } = await startApp(t)
  const browser = await logIn({ app, provider }, 'alice')
  const copy = browser.clone()
  const stolen = copy.cookies.header('/')
  const second = await logIn({ app, provider }, 'alice')
  await browser.post('/auth/logout')
  t.notMatch(browser.cookies.header('/'), NAME, 'the browser has no cookie any more')
  await anonymous(t, app, stolen, 'a copy', [])
  t.equal((await copy.goto('/me', { until: () => true })).status, 302)
  t.equal((await second.goto('/me')).json().claims.sub, 'alice', 'another session of the same person lives')
  await copy.goto('/auth/login')
  await anonymous(t, app, stolen, 'a new login does not revive it', [])
})

t.test('R13 a request that was under way while another tab logged in leaves the new session alone', async (t) => {
  const { app, provider } = await startApp(t)
  const browser = await logIn({ app, provider }, 'alice')
  const before = browser.cookies.header('/')
  await browser.goto('/auth/login')
  const page = { cookie: before, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', accept: 'text/html' }
  const late = await app.inject({ url: '/me', headers: page })
  t.equal(late.statusCode, 302, 'its session is over')
  t.same(namesOf(setCookiesOf(late)).filter((name) => !name.includes('-login-')), [])
  t.equal((await browser.goto('/me')).status, 200)
})

t.test('V18 S41 a slow request does not bring a session back', async (t) => {
  const clock = stopClock(t)
  const waiting: Array<() => void> = []
  const { app, provider } = await startApp(t)
  app.get('/slow', { preHandler: app.oidc.required() }, async (request) => {
    await new Promise<void>((resolve) => { waiting.push(resolve) })
    return { sub: request.oidcClaims?.sub }
  })
  async function overtake (browser: TestBrowser, overtaking: () => Promise<unknown>): Promise<LightMyRequestResponse> {
    clock.advance(400) // the slow request would write the cookie again
    const slow = get(app, '/slow', browser.cookies.header('/'))
    while (waiting.length === 0) await new Promise(setImmediate)
    await overtaking()
    waiting.shift()?.()
    return await slow
  }

  const undisturbed = await logIn({ app, provider }, 'alice')
  t.same(namesOf(setCookiesOf(await overtake(undisturbed, async () => {}))), [NAME], 'by itself it writes the cookie')

  const leaving = await logIn({ app, provider }, 'alice')
  const before = leaving.cookies.header('/')
  const late = await overtake(leaving, async () => await leaving.clone().post('/auth/logout'))
  t.equal(late.statusCode, 200)
  t.same(setCookiesOf(late), [], 'after a logout it writes nothing')
  t.equal(late.headers['cache-control'], 'no-store')
  t.equal(await statusOf(app, '/me', before), 401)

  const changing = await logIn({ app, provider }, 'alice')
  const other = changing.clone()
  provider.options.approve = () => 'bob'
  other.cookies.delete(`op_session_${provider.port}`, provider.url)
  const crossed = await overtake(changing, async () => await other.goto('/auth/login'))
  t.same([crossed.json(), setCookiesOf(crossed)], [{ sub: 'alice' }, []], 'nor after the login of another user')
  t.equal((await other.goto('/me')).json().claims.sub, 'bob')
})

t.test('S40 V14 a response that depends on a session is not cached', async (t) => {
  const clock = stopClock(t)
  const { app, provider } = await startApp(t)
  const cases: Array<[headers: Record<string, string | string[]>, cacheControl: string, vary: string]> = [
    [{}, 'no-store', 'Cookie'],
    [{ 'cache-control': 'public, max-age=3600', vary: 'Accept' }, 'no-store', 'Accept, Cookie'],
    [{ 'cache-control': 'max-age=3600', vary: 'accept-encoding, COOKIE' }, 'no-store', 'accept-encoding, COOKIE'],
    [{ 'cache-control': 'private, max-age=60', vary: '*' }, 'private, max-age=60', '*'],
    [{ 'cache-control': 'max-age=60 , Private', vary: 'x-cookie' }, 'max-age=60 , Private', 'x-cookie, Cookie'],
    [
      { 'cache-control': 'private="x-secret"', vary: ['accept', 'accept-language'] },
      'no-store',
      'accept,accept-language, Cookie'
    ],
    [{ 'cache-control': 'x-private' }, 'no-store', 'Cookie'],
    [{ 'cache-control': 'no-store, max-age=0' }, 'no-store', 'Cookie']
  ]
  for (const [index, [headers]] of cases.entries()) {
    app.get(
      `/headers/${index}`,
      { preHandler: app.oidc.optional() },
      async (_request, reply) => await reply.headers(headers).send('text')
    )
  }
  app.get('/public', async (_request, reply) => await reply.header('cache-control', 'public, max-age=60').send('text'))
  app.get('/broken', { preHandler: app.oidc.required() }, async () => { throw new Error('a fault of the application') })
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header('/')
  for (const [index, [headers, cacheControl, vary]] of cases.entries()) {
    for (const sent of [cookie, '']) {
      const response = await get(app, `/headers/${index}`, sent)
      t.same(
        [response.statusCode, response.headers['cache-control'], String(response.headers.vary)],
        [200, cacheControl, vary],
        JSON.stringify(headers)
      )
    }
  }
  t.match(await get(app, '/broken', cookie), {
    statusCode: 500,
    headers: { 'cache-control': 'no-store', vary: 'Cookie' }
  })
  for (const path of ['/me', '/auth/session', '/auth/userinfo']) {
    for (const sent of [cookie, '']) {
      t.match((await get(app, path, sent)).headers, { 'cache-control': 'no-store' }, path)
    }
  }
  const open = await get(app, '/public', cookie)
  t.same(
    [open.headers['cache-control'], open.headers.vary],
    ['public, max-age=60', undefined],
    "a page that asks for no session is the application's own"
  )

  clock.advance(400)
  const written = await get(app, '/headers/3', cookie)
  t.same(namesOf(setCookiesOf(written)), [NAME])
  t.equal(written.headers['cache-control'], 'no-store', 'with a cookie in it not even a private cache keeps it')
  for (const hop of (await browser.goto('/auth/login')).history.filter(({ url }) =>
    url.startsWith(`${BASE_URL}/auth`)
  )) {
    t.equal(hop.headers.get('cache-control'), 'no-store', hop.url)
  }
})

t.test('S40 a later hook that fails does not double the cookies', async (t) => {
  const clock = stopClock(t)
  const { app, provider } = await startApp(t)
  app.addHook('onSend', async (request) => { if (request.url === '/late') throw new Error('late') })
  app.get('/late', { preHandler: app.oidc.required() }, async () => 'text')
  const browser = await logIn({ app, provider }, 'alice')
  clock.advance(400)
  const response = await get(app, '/late', browser.cookies.header('/'))
  t.equal(response.statusCode, 500)
  t.same(namesOf(setCookiesOf(response)), [NAME])
  t.equal(response.headers['cache-control'], 'no-store')
})

t.test('R24 a key rotation does not affect users', async (t) => {
  const ways: Array<[title: string, old: SessionOptions, both: SessionOptions, fresh: SessionOptions]> = [
    ['key', { key: SESSION_KEY }, { key: [NEW_KEY, SESSION_KEY] }, { key: NEW_KEY }],
    [
      'bytes',
      { key: keyBytes(7) },
      { key: [keyBytes(9), new Uint8Array(keyBytes(7))] },
      { key: NEW_KEY }
    ],
    ['secret', { secret: 'o'.repeat(32) }, { secret: ['n'.repeat(40), 'o'.repeat(32)] }, { secret: 'n'.repeat(40) }]
  ]
  for (const [title, old, both, fresh] of ways) {
    await t.test(title, async (t) => {
      const { app, provider } = await startApp(t, { session: old })
      const [during, after] = [
        await buildApp(t, optionsFor(provider, { session: both })),
        await buildApp(t, optionsFor(provider, { session: fresh }))
      ]
      for (const one of [during, after]) one.get('/token', async (request) => await one.oidc.accessToken(request))
      const browser = await logIn({ app, provider }, 'alice')
      const oldCookies = browser.cookies.header('/')
      const { session } = (await browser.goto('/me')).json()
      const waiting = await browser.goto('/auth/login?return_to=/maybe', {
        until: ({ pathname }) => pathname === '/authorize'
      })

      const moved = moveTo(during, browser)
      const page = await moved.goto('/me')
      t.same(page.json().session, session)
      t.same(namesOf(page.history[0]?.setCookie ?? []), [NAME, TOKENS], 'sealed with the new key, tokens and all')
      t.same((await moved.goto('/me')).history[0]?.setCookie, [], 'once')
      const [first, second] = [await moved.goto('/token'), await moveTo(after, moved).goto('/token')]
      t.equal(first.status, 200)
      t.equal(second.text(), first.text(), 'the tokens are still there when the old key is gone')
      t.same((await moveTo(after, moved).goto('/me')).json().session, session)

      provider.options.approve = () => 'alice'
      const done = await moveTo(during, browser).goto(waiting.location as string)
      t.match(
        [done.status, done.url, done.json().claims?.sub],
        [200, `${BASE_URL}/maybe`, 'alice'],
        'a login that was under way goes on'
      )
      await anonymous(t, after, oldCookies, 'with the old key gone the old cookies are nothing')
      const reversed = await buildApp(
        t,
        optionsFor(provider, { session: title === 'key' ? { key: [SESSION_KEY, NEW_KEY] } : both })
      )
      t.equal(await statusOf(reversed, '/me', moved.cookies.header('/')), 200, 'the order of the keys does not matter')
    })
  }
})

/** Replaces it also in modules that have imported it. */
function replaceHkdf (hkdfSync: typeof crypto.hkdfSync): void {
  crypto.hkdfSync = hkdfSync
  syncBuiltinESMExports()
}

t.test('R33 keys are derived at the start, not for each request', async (t) => {
  const { settings } = await parts(t)
  let derived = 0
  const { hkdfSync } = crypto
  t.teardown(() => replaceHkdf(hkdfSync))
  replaceHkdf((...parameters) => {
    derived++
    return hkdfSync(...parameters)
  })
  const app = Fastify()
  t.teardown(async () => await app.close())
  const sealer = await createSealer(app, settings)
  t.equal(derived, 13, 'one for each purpose, and one for values that stay in this process')
  for (const purpose of [
    'session', 'tokens', 'login', 'logout', 'store', 'nonce', 'code', 'refresh', 'device', 'step-up', 'user',
    'token-bytes'
  ] as const) {
    t.same(sealer.open(purpose, sealer.seal(purpose, { purpose }))?.content, { purpose })
    t.same(sealer.openBytes(purpose, sealer.sealBytes(purpose, Buffer.from(purpose)))?.toString(), purpose)
  }
  t.equal(derived, 13)
})

t.test('S82 V28 weak keys are refused', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  for (const session of [
    {},
    { key: 'short' },
    { key: Buffer.alloc(31) },
    { key: [] },
    { key: [SESSION_KEY, 'short'] },
    { secret: 'x'.repeat(31) },
    { secret: [] },
    { key: SESSION_KEY, secret: 'x'.repeat(32) }
  ] as SessionOptions[]) {
    t.throws(
      () => parseOptions(optionsFor(provider, { session })),
      { code: 'FST_OIDC_OPTION' },
      JSON.stringify(session)
    )
  }
})

t.test('R32 at most 4,096 users of updateUser are kept', async (t) => {
  const { settings, sealer } = await parts(t)
  const { random } = Math
  t.teardown(() => { Math.random = random })
  Math.random = () => 0 // all come into a full cache
  let opened = 0
  const open = (purpose: string): Opened => {
    if (purpose === 'session') return { content: sessionOf(), rotated: false }
    opened += 1
    return { content: { id: 'id', user: {} }, rotated: false }
  }
  const cookies = createSessionCookies(settings, { ...sealer, open }, alone(settings))
  const openTwice = (number: number): number => {
    const user = keyBytes(number).toString('base64url')
    for (let count = 0; count < 2; count++) cookies.open(`${NAME}=${user}; ${NAME}-user-0=${user}`)
    return opened
  }
  for (let number = 0; number < 4096; number++) openTwice(number)
  t.equal(openTwice(0), 8192, 'those that came twice are kept')
  t.same([openTwice(4096), openTwice(1)], [8194, 8194])
  t.ok(openTwice(0) > 8194, 'past the limit the oldest is opened again')
})

/** The parts that make session cookies, without a provider. */
async function parts (t: Test, session: SessionOptions = {}) {
  const app = Fastify()
  t.teardown(async () => await app.close())
  const settings = parseOptions({
    issuer: 'https://id.example.com',
    clientId: 'web',
    baseUrl: BASE_URL,
    session: { key: SESSION_KEY, ...session }
  })
  const sealer = await createSealer(app, settings)
  return { settings, sealer, cookies: createSessionCookies(settings, sealer, alone(settings)) }
}

function sessionOf (user: object | null = null, id = 'id'): Session {
  const now = Math.floor(Date.now() / 1000)
  return {
    version: 2,
    issuedBy: 'id of the provider',
    session: { id, provider: 'default', scopes: ['openid'], loginTime: now, expiresAt: now + 28_800 },
    claims: { iss: 'https://id.example.com', sub: 'alice' },
    user,
    loginAt: Date.now(),
    seenAt: now,
    revision: 0
  }
}

/** No character of base64url: such a token takes as many bytes as it has characters. */
const OPAQUE = '~'

function tokensOf (length: number): OidcTokens {
  return { access_token: 'a', token_type: 'bearer', refresh_token: OPAQUE.repeat(length) }
}

/** Makes the tokens need two cookies. An ID token of this size would not be kept (K10). */
function enlargeAccessToken (answer: Record<string, unknown>): void {
  answer['access_token'] = `${String(answer['access_token'])}${OPAQUE.repeat(2500)}`
}

/** The Cookie header of a browser that took these Set-Cookie lines. */
function headerOf (setCookies: string[]): string {
  return setCookies.filter((line) => !line.includes('Max-Age=0;')).map((line) => line.split(';')[0]).join('; ')
}

t.test('R22 V26 tokens are cut at the limit of browsers, to the byte', async (t) => {
  const differences = new Set<number>()
  for (const cookieName of ['oidc', 'oidcs', 'oidcss', 'oidcsss']) {
    const { settings, sealer, cookies } = await parts(t, { cookieName })
    const limit = chunksOf(cookies, 4000)[0]?.length as number
    for (let length = 2650; length < 2950; length++) {
      const tokens = tokensOf(length)
      const size = sealer.sealBytes('token-bytes', packTokens({ id: 'id', revision: 0, tokens })).length
      if (Math.abs(size - limit) > 4) continue
      differences.add(size - limit)
      const { session, setCookies, bytes } = cookies.write(undefined, sessionOf(), tokens, 28_800)
      t.same(
        namesOf(setCookies),
        ['', '-tokens-0', ...(size > limit ? ['-tokens-1'] : [])].map((suffix) => settings.session.cookieName + suffix),
        `${size} of ${limit} bytes`
      )
      t.ok(
        setCookies.every((line) => line.length <= 4096),
        'name, value and attributes fit'
      )
      t.same(cookies.openTokens(headerOf(setCookies), session), tokens, 'and what is written can be read')
      t.same(cookies.open(headerOf(setCookies))?.session, session)
      t.equal(bytes, headerOf(setCookies).length + 2, 'the size is that of the header and a separator')
    }
  }
  t.ok(
    [-1, 0, 1].every((difference) => differences.has(difference)),
    `the border itself was tried: ${[...differences].sort().join(', ')}`
  )
})

function chunksOf (cookies: SessionCookies, length: number): string[] {
  return cookies
    .write(undefined, sessionOf(), tokensOf(length), 28_800)
    .setCookies.slice(1)
    .map((line) => line.slice(line.indexOf('=') + 1, line.indexOf(';')))
}

/** A JWT with this payload, and a signature of so many bytes. */
function jwtOf (header: object, payload: object, signature = 256): string {
  const parts = [header, payload].map((part) => Buffer.from(JSON.stringify(part)))
  return [...parts, crypto.randomBytes(signature)].map((part) => part.toString('base64url')).join('.')
}

const packed = (tokens: SessionTokens): Buffer => packTokens({ id: 'id', revision: 0, tokens })

t.test('K10 V26 every token comes back as it was', (t) => {
  const header = { alg: 'RS256', typ: 'JWT', kid: crypto.randomUUID() }
  const jwt = fc.tuple(fc.dictionary(fc.string(), fc.jsonValue()), fc.string({ maxLength: 400 }), fc.nat(64))
    .map(([claims, bulk, signature]) => jwtOf(header, { ...claims, bulk }, signature))
  // Some of these are the same bytes as another text: only the exact text must come back.
  const encoded = fc.array(fc.string({ unit: fc.constantFrom(...'AQgw_-+/=.x') })).map((parts) => parts.join('.'))
  const changed = fc.tuple(jwt, fc.string()).map((parts) => parts.join(''))
  const token = fc.oneof(fc.string({ unit: 'binary' }), jwt, encoded, changed)
  const tokens = fc.record({
    access_token: token,
    refresh_token: token,
    id_token: token,
    token_type: fc.constant('bearer' as const),
    expires_at: fc.option(fc.nat(), { nil: undefined }),
    resource: fc.array(token)
  }, { requiredKeys: ['access_token', 'token_type'] }) as fc.Arbitrary<SessionTokens>
  fc.assert(fc.property(tokens, (tokens) => {
    const opened = unpackTokens(packed(tokens)).tokens
    const expected = JSON.parse(JSON.stringify(tokens))
    const read = { ...opened }
    t.strictSame([read, opened.refresh_token, { ...opened }], [expected, expected.refresh_token, expected])
  }), { numRuns: 300 })
  t.end()
})

t.test('K10 tokens of Keycloak and Entra ID take less than three quarters of the room', async (t) => {
  const { sealer } = await parts(t)
  const uuid = (): string => crypto.randomUUID()
  const random = (bytes: number): string => crypto.randomBytes(bytes).toString('base64url')
  const times = { exp: 1_796_058_000, iat: 1_796_057_700, auth_time: 1_796_057_699 }
  const ada = {
    name: 'Ada Augusta King',
    preferred_username: 'ada.king',
    given_name: 'Ada',
    family_name: 'King',
    email: 'ada.king@analytical-engine.example'
  }
  const realm = { iss: 'https://id.example.com/realms/production', sub: uuid(), sid: uuid(), azp: 'web', acr: '1' }
  const authority = `https://login.microsoftonline.com/${uuid()}/v2.0`
  const tenant = { iss: authority, tid: uuid(), oid: uuid(), ver: '2.0', ...ada }
  const signed = { alg: 'RS256', typ: 'JWT', kid: random(32) }
  const providers: Record<string, Required<Pick<OidcTokens, 'access_token' | 'refresh_token' | 'id_token'>>> = {
    keycloak: {
      access_token: jwtOf(signed, {
        ...times,
        ...realm,
        ...ada,
        jti: `onrtac:${uuid()}`,
        aud: ['realm-management', 'account'],
        typ: 'Bearer',
        'allowed-origins': ['https://app.example.com'],
        realm_access: { roles: ['default-roles-production', 'offline_access', 'uma_authorization', 'editor'] },
        resource_access: { account: { roles: ['manage-account', 'manage-account-links', 'view-profile'] } },
        scope: 'openid email profile',
        email_verified: true
      }),
      refresh_token: jwtOf({ alg: 'HS512', typ: 'JWT', kid: uuid() }, {
        ...times, ...realm, jti: uuid(), aud: realm.iss, typ: 'Refresh', scope: 'openid basic email roles profile acr'
      }, 64),
      id_token: jwtOf(signed, {
        ...times, ...realm, ...ada, jti: uuid(), aud: 'web', typ: 'ID', at_hash: random(16), nonce: random(32)
      })
    },
    entra: {
      access_token: jwtOf({ ...signed, nonce: random(32), x5t: random(20) }, {
        ...times,
        ...tenant,
        aud: '00000003-0000-0000-c000-000000000000',
        aio: random(90),
        amr: ['pwd', 'mfa'],
        app_displayname: 'Web',
        appid: uuid(),
        appidacr: '1',
        idtyp: 'user',
        ipaddr: '203.0.113.7',
        rh: `1.${random(40)}.`,
        scp: 'email openid profile User.Read',
        signin_state: ['kmsi'],
        sub: random(32),
        tenant_region_scope: 'EU',
        unique_name: ada.email,
        upn: ada.email,
        uti: random(16),
        wids: [uuid(), uuid()],
        xms_ftd: random(32),
        xms_idrel: '1 12',
        xms_st: { sub: random(32) }
      }),
      refresh_token: `1.${random(42)}.AgABAwEAAAB${random(960)}`,
      id_token: jwtOf(signed, {
        ...times, ...tenant, aud: uuid(), nonce: random(32), rh: `1.${random(40)}.`, sub: random(32), uti: random(16)
      })
    }
  }
  for (const [name, tokens] of Object.entries(providers)) {
    const content = { id: random(16), revision: 0, tokens: { ...tokens, token_type: 'bearer', expires_at: times.exp } }
    const [before, now] = [sealer.seal('tokens', content), sealer.sealBytes('token-bytes', packTokens(content))]
    t.ok(now.length <= before.length * 0.75, `${name}: ${now.length} bytes instead of ${before.length}`)
    t.strictSame({ ...unpackTokens(packTokens(content)).tokens }, content.tokens)
  }
})

t.test('K10 the length of the cookies does not tell what two tokens have in common', (t) => {
  const secret = 'a secret that only one of the tokens has '.repeat(8)
  const [one, other] = ['x', 'y'].map((letter) => jwtOf({ alg: 'none' }, { secret, letter })) as [string, string]
  const alone = (name: keyof SessionTokens, token: string): number => packed({ [name]: token }).length
  const [empty, comma] = [packed({}).length, 1]
  t.equal(
    packed({ access_token: one, id_token: other }).length - empty,
    alone('access_token', one) - empty + alone('id_token', other) - empty + comma
  )
  t.ok(alone('access_token', one) < one.length * 0.7, 'each is compressed')
  t.end()
})

t.test('K10 what is decompressed has a limit', (t) => {
  const payload = (length: number): string => Buffer.from(`{${'x'.repeat(length - 1)}`).toString('base64url')
  const [largest, larger] = [packed({ access_token: payload(32_768) }), packed({ access_token: payload(32_769) })]
  t.ok(largest.length < 500)
  t.ok(larger.length > 32_768, 'it is not compressed')
  for (const [packed, length] of [[largest, 32_768], [larger, 32_769]] as const) {
    t.equal(unpackTokens(packed).tokens.access_token, payload(length))
  }
  const bomb = zlib.deflateRawSync(Buffer.alloc(1_000_000, '{'))
  const json = JSON.stringify({ tokens: { access_token: [-bomb.length] } })
  const { tokens } = unpackTokens(Buffer.concat([Buffer.from(`${json}\0`), bomb]))
  t.throws(() => tokens.access_token, { code: 'ERR_BUFFER_TOO_LARGE' })
  t.end()
})

t.test('V28 values of bytes and of JSON are never taken for each other, and no other text opens', async (t) => {
  const { sealer } = await parts(t)
  const sealed = sealer.sealBytes('session', Buffer.from('bytes'))
  const asText = `${sealed.slice(32)}.${sealed.slice(0, 32)}`
  t.equal(sealer.openBytes('session', sealed)?.toString(), 'bytes')
  const text = sealer.seal('session', 1)
  for (const value of ['', '.', 'AAAA', sealed.slice(0, 32), asText, `${sealed}=`, `${sealed.slice(0, -2)}=`, text]) {
    t.equal(sealer.openBytes('session', value), null, JSON.stringify(value))
  }
  t.equal(sealer.open('session', sealed), null)
})

t.test('R22 V26 a session that shrinks takes exactly its own cookies back', async (t) => {
  const { cookies, sealer } = await parts(t)
  const large = cookies.write(undefined, sessionOf(), tokensOf(3500), 28_800)
  t.equal(large.setCookies.length, 3)
  const neighbours = `${NAME}-login-1=x; ${NAME}x=x; ${NAME}-other=x; ${NAME}-tokens=x; oidc=x; sid=x`
  const header = `${neighbours}; ${headerOf(large.setCookies)}; ${NAME}-tokens-7=stale`
  const small = cookies.write(header, sessionOf(), tokensOf(10), 28_800)
  t.same(small.setCookies.slice(2), [removal(`${NAME}-tokens-1`), removal(`${NAME}-tokens-7`)])
  const opened = cookies.openTokens(headerOf(small.setCookies), small.session)
  t.same({ ...opened }, tokensOf(10))
  const former = sealer.seal('tokens', { id: 'id', revision: 0, tokens: tokensOf(10) })
  for (const stale of [`; ${NAME}-tokens-1=${former}`, `; ${NAME}-tokens-1=AAAA`]) {
    t.same({ ...cookies.openTokens(headerOf(small.setCookies) + stale, small.session) }, tokensOf(10))
  }
  t.same(cookies.openTokens(`${TOKENS}=${former}`, small.session), tokensOf(10), 'as version 0.1.0 has sealed them')
  t.same(cookies.remove(header), [NAME, TOKENS, `${NAME}-tokens-1`, `${NAME}-tokens-7`].map(removal))
  t.same(cookies.remove(neighbours), [])
})

t.test('R22 V26 the largest session that is written is one that a browser takes', async (t) => {
  const { cookies } = await parts(t)
  const border = (fits: (length: number) => boolean): number => {
    let [good, bad] = [0, 8000]
    while (bad - good > 1) {
      const middle = Math.floor((good + bad) / 2)
      if (fits(middle)) good = middle
      else bad = middle
    }
    return good
  }
  const user = (length: number): Session => sessionOf({ text: 'u'.repeat(length) })
  const hot = border((length) => succeeds(() => cookies.write(undefined, user(length), {}, 28_800)))
  t.ok(hot > 2400, `${hot} characters of user`)
  t.ok(cookies.write(undefined, user(hot), {}, 400 * 86_400).setCookies.every((line) => line.length <= 4096))
  t.throws(() => cookies.write(undefined, user(hot + 1), {}, 28_800), {
    code: 'FST_OIDC_SESSION_TOO_LARGE',
    statusCode: 431,
    detail: /cookie of \d+ bytes, 4096 .* fewer "claims".*"onClaims"/
  })

  const cold = border((length) => succeeds(() => cookies.write(undefined, sessionOf(), tokensOf(length), 28_800)))
  t.ok(cold > 4000, `${cold} characters of tokens`)
  const { setCookies, bytes } = cookies.write(undefined, sessionOf(), tokensOf(cold), 28_800)
  t.ok(bytes <= 7000 && bytes > 6990, `${bytes} bytes`)
  t.ok(headerOf(setCookies).length <= bytes)
  t.throws(() => cookies.write(undefined, sessionOf(), tokensOf(cold + 3), 28_800), {
    code: 'FST_OIDC_SESSION_TOO_LARGE',
    detail: new RegExp(`7000 is the limit: keep fewer "session.tokens" \\(access_token 1, refresh_token ${cold + 3}\\)`)
  })
})

function succeeds (call: () => unknown): boolean {
  try {
    call()
    return true
  } catch {
    return false
  }
}

t.test('R22 V26 a login that is too large says so, and breaks nothing', async (t) => {
  const lines: string[] = []
  const logger = { level: 'info', stream: { write: (line: string) => { lines.push(line) } } }
  let user: object = { name: 'small' }
  const { app, provider } = await startApp(t, { onClaims: () => user }, {}, { logger })
  const browser = await logIn({ app, provider }, 'alice')
  const before = browser.cookies.header('/')
  const attempts: Array<[advice: RegExp, prepare: () => void]> = [
    [/return less from \\"onClaims\\"/, () => { user = { text: 'u'.repeat(4000) } }],
    [/keep fewer \\"session\.tokens\\" \(access_token \d+, refresh_token 6000, id_token \d+\)/, () => {
      user = {}
      provider.fault({ on: 'token', tokenResponse: (answer) => { answer.refresh_token = OPAQUE.repeat(6000) } })
    }]
  ]
  for (const [advice, prepare] of attempts) {
    prepare()
    lines.length = 0
    const page = await browser.goto('/auth/login?return_to=/me')
    t.equal(page.status, 431)
    t.match(
      page.text(),
      /does not fit into the browser&#39;s cookies.*FST_OIDC_SESSION_TOO_LARGE.*href="https:\/\/app\.example\.com\/auth\/login/
    )
    t.same(
      namesOf(page.history.at(-1)?.setCookie ?? []).filter((name) => !name.includes('-login-')),
      [],
      'no broken cookie, and no loop'
    )
    const line = lines.find((line) => line.includes('FST_OIDC_SESSION_TOO_LARGE')) as string
    t.match(line, advice, 'the log says what to do')
    t.equal(JSON.parse(line).level, 50)
    t.notMatch(line, /~~~~|uuuu/, 'without what was too large')
    t.notMatch(page.text(), advice, 'the page does not')
    t.equal(await statusOf(app, '/me', before), 200, 'the session from before is still there')
  }
})

t.test('R13 R22 all cookies together stay below 8000 bytes', async (t) => {
  const { app, provider } = await startApp(t)
  app.get('/token', async (request) => await app.oidc.accessToken(request))
  provider.fault({ on: 'token', tokenResponse: (answer) => { answer.refresh_token = OPAQUE.repeat(2500) } })
  for (const length of [0, 300, 1900]) {
    const browser = client({ app, baseUrl: BASE_URL })
    const begin = async (): Promise<string> => {
      const page = await browser.goto(`/auth/login?return_to=/maybe?${'x'.repeat(length)}`, {
        until: ({ pathname }) => pathname === '/authorize'
      })
      t.ok(browser.cookies.bytes('/') < 8000, `${browser.cookies.bytes('/')} bytes`)
      return page.location as string
    }
    const starts: string[] = []
    for (let count = 0; count < 15; count++) starts.push(await begin())
    const newest = await browser.goto(starts.at(-1) as string)
    t.equal(newest.url.split('?')[0], `${BASE_URL}/maybe`, 'the newest login works')
    t.ok(browser.cookies.bytes('/') < 8000, `${browser.cookies.bytes('/')} bytes with the session`)
    t.equal((await browser.goto('/token')).status, 200, 'and nothing of the session is missing')
    for (let count = 0; count < 15; count++) starts.push(await begin())
    t.equal((await browser.goto('/token')).status, 200, 'further logins do not push the session out')
    t.equal(
      (await browser.goto(starts.at(-1) as string)).url,
      length < 1000 ? `${BASE_URL}/maybe?${'x'.repeat(length)}` : `${BASE_URL}/maybe`,
      'a long address loses its query where there is no room for it'
    )
    t.equal((await browser.goto('/me')).json().claims.sub, 'alice')
    t.same(browser.cookies.refused, [])
  }
})

t.test('R13 R22 K2 a session that grows has room beside the pending logins', async (t) => {
  const clock = stopClock(t)
  const { app, provider } = await startApp(t, { offlineAccess: true, claims: [] })
  app.get('/token', async (request) => await app.oidc.accessToken(request))
  const browser = await logIn({ app, provider }, 'alice')
  let newest = ''
  for (let count = 0; count < 12; count++) {
    clock.advance(1)
    newest = (
      await browser.goto(`/auth/login?return_to=/maybe?${count}`, {
        until: ({ pathname }) => pathname === '/authorize'
      })
    ).location as string
  }
  const pending = (): string[] =>
    browser.cookies
      .list('/')
      .map(({ name }) => name)
      .filter((name) => name.includes('-login-'))
      .sort()
  const before = pending()
  provider.fault({ on: 'token', idToken: ({ at_hash: _, ...claims }) => claims, tokenResponse: enlargeAccessToken })
  clock.advance(3570)
  t.equal((await browser.goto('/token')).status, 200)
  t.ok(browser.cookies.bytes('/') < 8000, `${browser.cookies.bytes('/')} bytes`)
  t.equal(before.length, 12)
  t.same(pending(), before, 'each login stays')
  t.equal((await browser.goto(newest)).url, `${BASE_URL}/maybe?11`)
  t.same(browser.cookies.refused, [])
})

t.test('S46 the session endpoint returns the user and the session, and nothing else', async (t) => {
  const { app, provider } = await startApp(t, { onClaims: () => ({ internal: 'secret' }) })
  const browser = await logIn({ app, provider }, 'alice')
  const page = await browser.fetch('/auth/session')
  const { claims, session } = page.json()
  t.same(Object.keys(page.json()).sort(), ['claims', 'session'])
  t.same(Object.keys(session).sort(), ['expiresAt', 'loginTime', 'provider'])
  t.equal(claims.sub, 'alice')
  t.notOk(['nonce', 'at_hash', 'aud', 'exp', 'sid'].some((name) => name in claims))
  t.notMatch(page.text(), /secret|eyJ/)
  const anonymous = await client({ app, baseUrl: BASE_URL }).fetch('/auth/session')
  t.match(
    [anonymous.status, anonymous.json()],
    [401, { code: 'FST_OIDC_LOGIN_REQUIRED', login: `${BASE_URL}/auth/login` }]
  )
})

t.test('a handler cannot change what other requests see', async (t) => {
  const user = { name: 'Alice', teams: ['red'] }
  const { app, provider } = await startApp(t, { onClaims: () => user })
  const changes: Array<[string, (request: FastifyRequest) => unknown]> = [
    ['a claim', ({ oidcClaims }) => { (oidcClaims as { sub: string }).sub = 'mallory' }],
    ['a new claim', ({ oidcClaims }) => { (oidcClaims as Record<string, unknown>).admin = true }],
    ['a nested one', ({ oidcClaims }) => (oidcClaims?.['realm_access'] as { roles: string[] }).roles.push('admin')],
    ['a role', ({ oidcClaims }) => (oidcClaims?.['roles'] as string[]).push('admin')],
    ['a removal', ({ oidcClaims }) => { delete (oidcClaims as Record<string, unknown>).email }],
    ['the user', ({ oidcUser }) => (oidcUser as { teams: string[] }).teams.push('admins')],
    ['the session', ({ oidcSession }) => oidcSession?.scopes.push('admin')],
    ['its end', ({ oidcSession }) => { (oidcSession as { expiresAt: number }).expiresAt = Infinity }]
  ]
  const raised: unknown[] = []
  app.get('/change/:index', { preHandler: app.oidc.required() }, async (request) => {
    try {
      changes[Number((request.params as { index: string }).index)]?.[1](request)
    } catch (error) {
      raised.push(error)
    }
    return {}
  })
  const browser = await logIn({ app, provider }, 'alice')
  const before = (await browser.goto('/me')).json()
  for (const [index, [title]] of changes.entries()) {
    t.equal((await browser.goto(`/change/${index}`)).status, 200)
    t.same((await browser.goto('/me')).json(), before, title)
  }
  t.equal(raised.length, changes.length, 'and the application notices that it tried')
  user.teams.push('blue')
  t.same(
    user,
    { name: 'Alice', teams: ['red', 'blue'] },
    "the object that onClaims returned stays the application's own"
  )
  t.same((await browser.goto('/me')).json().user, { name: 'Alice', teams: ['red'] })
})

t.test('what onClaims returns must be JSON', async (t) => {
  const cyclic: Record<string, unknown> = {}
  cyclic['self'] = cyclic
  for (const user of [cyclic, { id: 1n }]) {
    const { browser } = await startApp(t, { onClaims: () => user })
    const page = await browser.goto('/auth/login?return_to=/me')
    t.match([page.status, page.text()], [403, /FST_OIDC_CLAIMS/])
    t.notOk(browser.cookies.get(NAME))
  }
})

t.test('R19 claims and users named like parts of every object', async (t) => {
  const { app, provider } = await startApp(t, {
    onClaims: () => JSON.parse('{"__proto__":{"isAdmin":true},"name":"x"}') as object
  })
  app.get('/admin', { preHandler: app.oidc.required({ claims: { isAdmin: true } }) }, async () => 'admin')
  app.get('/own', { preHandler: app.oidc.required() }, async ({ oidcClaims, oidcUser }) => ({
    claims: [
      Object.getPrototypeOf(oidcClaims) === Object.prototype,
      Object.keys(oidcClaims as object)
        .filter((name) => ['__proto__', 'constructor', 'toString'].includes(name))
        .sort(),
      oidcClaims?.['isAdmin'] ?? null
    ],
    user: [Object.getPrototypeOf(oidcUser) === Object.prototype, (oidcUser as { isAdmin?: boolean }).isAdmin ?? null]
  }))
  provider.fault(faults['claims-prototype'])
  const browser = await logIn({ app, provider }, 'alice')
  t.same((await browser.goto('/own')).json(), {
    claims: [true, ['__proto__', 'constructor', 'toString'], null],
    user: [true, null]
  })
  t.equal((await browser.goto('/admin')).status, 403)
  t.notOk('isAdmin' in {})
})

t.test('S47 sessions are never mixed under load', async (t) => {
  const { app, provider } = await startApp(t)
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => {
    const token = await app.oidc.accessToken(request)
    await new Promise(setImmediate)
    return { sub: request.oidcClaims?.sub, token, id: request.oidcSession?.id }
  })
  const people: Array<{ sub: string, cookie: string }> = []
  for (let number = 0; number < 12; number++) {
    const browser = await logIn({ app, provider }, `person-${number}`)
    people.push({ sub: `person-${number}`, cookie: browser.cookies.header('/') })
  }
  const known = new Map<string, string>()
  const requests = Array.from(
    { length: 360 },
    (_, index) => people[(index * 7) % people.length] as (typeof people)[number]
  )
  const answers = await Promise.all(requests.map(async ({ cookie }) => (await get(app, '/token', cookie)).json()))
  answers.forEach((answer, index) => {
    const sub = requests[index]?.sub as string
    const expected = known.get(sub) ?? JSON.stringify(answer)
    known.set(sub, expected)
    t.equal(answer.sub, sub)
    t.equal(JSON.stringify(answer), expected)
  })
  t.equal(new Set(known.values()).size, people.length)
})

t.test('R32 a bounded number of opened cookies is cached', async (t) => {
  const { cookies } = await parts(t)
  const headers = Array.from(
    { length: 4100 },
    (_, index) => `${NAME}=${/=([^;]+)/.exec(cookies.rewrite(undefined, sessionOf(null, `id-${index}`), 60))?.[1]}`
  )
  const [first, last] = [headers[0] as string, headers.at(-1) as string]
  const often = (header: string) => [1, 2, 3].map(() => cookies.open(header))[2]
  const isKept = (header: string): boolean =>
    [1, 2].map(() => cookies.open(header)?.session).every((session, _index, [first]) => session === first)
  const opened = often(first)
  t.equal(opened?.session.session.id, 'id-0')
  t.equal(cookies.open(first), opened, 'what comes again and again is not opened each time')
  for (const header of headers) often(header)
  const kept = headers.filter(isKept).length
  t.ok(kept > 3900, 'when more come in turn than there is room for, most are known all the same')
  while (!isKept(last)) t.ok(true, 'a full cache does not admit every value at once')
  t.not(cookies.open(first), opened, 'the oldest were forgotten')
  t.same(cookies.open(first)?.session, opened?.session, 'and are opened again')
  const [value, other] = [first.slice(NAME.length + 1), last.slice(NAME.length + 1)]
  t.equal(
    cookies.open(`${NAME}=${other.slice(0, -32)}${value.slice(-32)}`),
    null,
    'the nonce of a known cookie does not stand for it'
  )
})

t.test('a session is opened once for a request, and what comes once takes no place of others', async (t) => {
  const { app, provider } = await startApp(t)
  const { sealer } = partsOf(app.oidc)
  const { open } = sealer
  const opened: string[] = []
  sealer.open = (purpose, value) => {
    opened.push(purpose)
    return open(purpose, value)
  }
  const browser = await logIn({ app, provider }, 'alice')
  const counts = []
  for (let request = 0; request < 4; request++) {
    opened.length = 0
    t.equal((await browser.goto('/me')).status, 200)
    counts.push(opened.length)
  }
  t.same(counts, [1, 1, 0, 0], 'at its second sight it is kept')
})

t.test('a session whose provider is not known yet is neither used nor removed', async (t) => {
  const { settings, sealer, cookies } = await parts(t)
  const { setCookies } = cookies.write(undefined, sessionOf(), tokensOf(1), 60)
  const sessions = createSessions(settings.session, {
    cookies: createSessionCookies(settings, sealer, alone(settings)),
    providers: { ...createProviders(settings, silentLog), known: () => undefined },
    endedSessions: createEndedSessions(settings.session, undefined),
    records: undefined,
    reportEnd: async () => {}
  })
  const request = { headers: { cookie: headerOf(setCookies) } } as FastifyRequest
  t.equal(sessions.read(request), null)
  t.same(request[sessions.key]?.removals, [])
})

t.test('R32 a bounded number of ended sessions is remembered', async (t) => {
  const session = sessionOf()
  const stub: SessionCookies = {
    open: (header) => ({
      session: { ...session, session: { ...session.session, id: String(header) } },
      rotated: false
    }),
    openTokens: () => ({}),
    writeUser: () => { throw new Error('not here') },
    checkUser: () => {},
    forgetUser: () => '',
    size: () => 0,
    write: () => { throw new Error('not here') },
    rewrite: () => '',
    remove: () => []
  }
  const { settings } = await parts(t)
  const providers = createProviders(settings, silentLog)
  session.issuedBy = providers.all()[0]?.id as string
  const sessions = createSessions(settings.session, {
    cookies: stub,
    providers,
    endedSessions: createEndedSessions(settings.session, undefined),
    records: undefined,
    reportEnd: async () => {}
  })
  const request = (id: string): FastifyRequest => ({ headers: { cookie: id } }) as unknown as FastifyRequest
  for (let id = 0; id < 100_000; id++) await sessions.end(request(String(id)), 'logout')
  t.equal(sessions.read(request('0')), null)
  t.equal(sessions.read(request('99999')), null)
  await sessions.end(request('one more'), 'logout')
  t.ok(sessions.read(request('0')), 'past the limit the oldest is forgotten')
  t.equal(sessions.read(request('1')), null)
  t.equal(sessions.read(request('one more')), null)

  const anonymous = request('one more')
  sessions.touch(anonymous)
  await sessions.replaceTokens(anonymous, tokensOf(1), { claims: { iss: 'https://id.example.com', sub: 'alice' } })
  t.equal(await sessions.end(anonymous, 'logout'), false)
  t.same(anonymous[sessions.key]?.setCookies, [], 'without a session nothing is written')
})
