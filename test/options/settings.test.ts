import fc from 'fast-check'
import t from 'tap'
import Fastify from 'fastify'
import oidc, { OidcError } from '../../index.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { providerSettings } from '../support/app.ts'
import { keyBytes, testKey } from '../support/keys.ts'
import type { OidcOptions } from '../../index.ts'

const key = testKey(1)
const good = {
  issuer: 'https://id.example.com',
  clientId: 'web',
  clientSecret: 's3cret',
  baseUrl: 'https://app.example.com',
  session: { key }
}

const parseOne = (options: object) => providerSettings({ ...good, ...options } as OidcOptions)
const parse = (options: object) => parseOptions({ ...good, ...options } as OidcOptions)

t.test('S82 each wrong option is refused at registration, and the message names it', async (t) => {
  const wrong: Array<[options: object, message: RegExp]> = [
    [{ issuerr: 'x' }, /"issuerr" is not an option/],
    [{ prefix: 'a b' }, /"prefix" must be a plain path/],
    [{ prefix: 1 }, /"prefix" must be a non-empty string/],
    [{ prefix: '/:tenant' }, /"prefix" must not have a parameter.*"resolveProvider"/],
    [{ logLevel: 1 }, /"logLevel" must be the name of a level/],
    [{ logSerializers: 1 }, /"logSerializers" must be an object of functions/],
    [{ logSerializers: { res: 1 } }, /"logSerializers.res" must be a function/],
    [{ logSerializers: { res: undefined } }, /"logSerializers.res" must be a function/],
    [{ encapsulate: 'no' }, /"encapsulate" must be true or false/],
    [{ issuer: 'http://id.example.com' }, /"issuer" must be an https URL/],
    [{ issuer: 'http://127.0.0.1:8080' }, /"issuer" must be an https URL/],
    [{ issuer: 'https://user:pass@id.example.com' }, /"issuer" must be an https URL/],
    [{ issuer: 'https://id.example.com#x' }, /"issuer" must be an https URL/],
    [{ issuer: 'https://id.example.com?x=1' }, /"issuer" must not have a query/],
    [{ issuer: 'javascript:alert(1)' }, /"issuer" must be an https URL/],
    [{ issuer: 'id.example.com' }, /"issuer" must be an absolute URL/],
    [{ issuer: 7 }, /"issuer" must be a non-empty string/],
    [{ issuer: '' }, /"issuer" must be a non-empty string/],
    [{ discoveryUrl: 'ftp://id.example.com' }, /"discoveryUrl" must be an https URL/],
    [{ metadata: [] }, /"metadata" must be an object/],
    [{ metadata: { issuer: 'https://id.example.com' }, issuer: undefined }, /"metadata.authorization_endpoint" is required/],
    [{ metadata: { token_endpoint: '' } }, /"metadata.token_endpoint"/],
    [{ metadata: { issuer: 'https://other.example' } }, /"metadata.issuer" is https:..other.example, not https:/],
    [{ trustedAudiences: true }, /"trustedAudiences" must be an array of strings, a function or/],
    [{ clientId: undefined }, /"clientId" must be/],
    [{ clientSecret: '' }, /"clientSecret" must be/],
    [
      { clientSecret: undefined, clientAuth: 'client_secret_post' },
      /^"clientSecret" is undefined: is its environment variable set\?$/
    ],
    [{ clientSecret: undefined }, /"clientSecret" is undefined: is its environment variable set\?/],
    [{ clientSecret: 'secret\n' }, /"clientSecret" ends with white space: does it come from a file with a line break\?/],
    [{ clientSecret: 'secret ' }, /"clientSecret" ends with white space/],
    [{ clientId: 'web\r\n' }, /"clientId" ends with white space/],
    [{ basicEncoding: 'none' }, /"basicEncoding" must be one of form, raw/],
    [{ basicEncoding: 'raw', clientId: 'a:b' }, /"basicEncoding" raw cannot send a "clientId" with a colon/],
    [{ clientAssertionAudience: '' }, /"clientAssertionAudience" must be/],
    [{ clientAuth: 'none' }, /"clientSecret" does not go with "clientAuth" none/],
    [{ clientAuth: 'basic' }, /"clientAuth" must be one of/],
    [{ scope: 'profile' }, /"scope" must contain openid/],
    [{ scope: 'openids' }, /"scope" must contain openid/],
    [{ offlineAccess: 'yes' }, /"offlineAccess" must be true or false/],
    [{ resource: [7] }, /"resource" must be/],
    [{ authorizationParams: { state: 'x' } }, /"authorizationParams" must not set state/],
    [{ authorizationParams: { nonce: 'x' } }, /must not set nonce/],
    [{ authorizationParams: { redirect_uri: 'x' } }, /must not set redirect_uri/],
    [{ authorizationParams: { code_challenge_method: 'plain' } }, /must not set code_challenge_method/],
    [{ authorizationParams: { prompt: 7 } }, /"authorizationParams.prompt" must be/],
    [{ authorizationParams: 'prompt=login' }, /"authorizationParams" must be an object/],
    [{ responseMode: 'fragment' }, /"responseMode" must be one of/],
    [{ idTokenSigningAlg: 'HS256' }, /"idTokenSigningAlg" must be one of/],
    [{ idTokenSigningAlg: 'none' }, /"idTokenSigningAlg" must be one of/],
    [{ trustedAudiences: 'x' }, /"trustedAudiences" must be an array/],
    [{ jwksUri: 'http://id.example.com/jwks' }, /"jwksUri" must be an https URL/],
    [{ userinfo: 1 }, /"userinfo" must be true or false/],
    [{ rolesFrom: 'id_token' }, /"rolesFrom" must be an array/],
    [{ rolesFrom: [] }, /"rolesFrom" must name a source/],
    [{ rolesFrom: ['idtoken'] }, /"rolesFrom" must be one of id_token, userinfo, access_token/],
    [{ discovery: 'never' }, /"discovery" must be one of/],
    [{ clockTolerance: 301 }, /"clockTolerance" must be a number from 0 to 300/],
    [{ clockTolerance: '30' }, /"clockTolerance" must be a number/],
    [{ clockTolerance: NaN }, /"clockTolerance" must be a number/],
    [{ baseUrl: 'http://app.example.com' }, /"baseUrl" must be an https URL/],
    [{ baseUrl: 'https://app.example.com?x' }, /"baseUrl" must not have a query/],
    [{ baseUrl: undefined }, /"baseUrl" must be a non-empty string/],
    [{ allowInsecureLoopback: true, baseUrl: 'http://app.example.com' }, /"baseUrl" must be an https URL/],
    [{ allowInsecureLoopback: true, baseUrl: 'http://127.0.0.1.example.com' }, /"baseUrl" must be an https URL/],
    [{ allowInsecureLoopback: 'yes' }, /"allowInsecureLoopback" must be true or false/],
    [{ routes: 'auth' }, /"routes" must be an object/],
    [{ routes: { logon: '/x' } }, /"routes.logon" is not an option/],
    [{ routes: { login: '/a b' } }, /"routes.login" must be a plain path/],
    [{ routes: { login: '/:id' } }, /"routes.login" must be a plain path/],
    [{ routes: { prefix: '/*' } }, /"routes.prefix" must be a plain path/],
    [{ routes: { callback: false } }, /"routes.callback" must not be false/],
    [{ defaultReturnTo: 'https://evil.example.com/' }, /"defaultReturnTo" must be below/],
    [{ session: undefined }, /"session" must be an object/],
    [{ session: {} }, /"session" must have a "key" or a "secret"/],
    [{ session: { key, secret: 'x'.repeat(32) } }, /"session" must have a "key" or a "secret"/],
    [{ session: { key: 'short' } }, /"session.key" must be 32 bytes/],
    [{ session: { key: [key, 'short'] } }, /"session.key" must be 32 bytes/],
    [{ session: { key: [] } }, /"session.key" must not be empty/],
    [{ session: { secret: 'x'.repeat(31) } }, /"session.secret" must be at least 32 bytes/],
    [{ session: { key, cookieName: 'a;b' } }, /"session.cookieName" must consist of letters/],
    [{ session: { key, maxAge: 0 } }, /"session.maxAge" must be a number from 1/],
    [{ session: { key, maxAge: 3600.5 } }, /"session.maxAge" must be whole seconds/],
    [{ session: { key, idleTimeout: -1 } }, /"session.idleTimeout" must be a number from 1/],
    [{ session: { key, sameSite: 'loose' } }, /"session.sameSite" must be one of/],
    [
      { session: { key, sameSite: 'none' }, allowInsecureLoopback: true, baseUrl: 'http://localhost' },
      /"session.sameSite" none needs an https/
    ],
    [{ session: { key, tokens: ['secret'] } }, /"session.tokens" must be one of/],
    [{ session: { key, trustedOrigins: ['https://www.example.com/'] } }, /"session.trustedOrigins" must be origins/],
    [{ session: { key, trustedOrigins: ['*'] } }, /"session.trustedOrigins" must be origins/],
    [{ session: { key, expires: 1 } }, /"session.expires" is not an option/],
    [{ claims: 'email' }, /"claims" must be an array/],
    [{ onClaims: true }, /"onClaims" must be a function/],
    [{ onLogout: null }, /"onLogout" must be a function/],
    [{ hookTimeout: 0 }, /"hookTimeout" must be a number from 0.001 to 600/],
    [{ hookTimeout: '30' }, /"hookTimeout" must be a number/],
    [{ requiredClaims: ['email'] }, /"requiredClaims" must/],
    [{ requiredClaims: { email: [] } }, /"requiredClaims" must give email a value/],
    [{ requiredClaims: { email: { $ne: null } } }, /"requiredClaims" must give email a value/],
    [{ fetch: 'fetch' }, /"fetch" must be a function/],
    [{ dispatcher: {} }, /"dispatcher" must be an undici dispatcher/],
    [{ timeout: 0 }, /"timeout" must be a number from/],
    [{ maxResponseBytes: Infinity }, /"maxResponseBytes" must be a number from/],
    [{ telemetry: true }, /"telemetry" must be false or an object/],
    [{ telemetry: { logger: 1 } }, /"telemetry.logger" is not an option/]
  ]
  for (const [options, message] of wrong) {
    t.throws(() => parse(options), { code: 'FST_OIDC_OPTION', message }, JSON.stringify(options))
  }
})

t.test('S82 the provider must be named', async (t) => {
  const { issuer, ...rest } = good
  t.throws(() => parseOptions(rest as OidcOptions), {
    code: 'FST_OIDC_OPTION',
    message: /one of "issuer", "discoveryUrl" and "metadata"/
  })
  t.throws(() => parseOptions(null as never), { code: 'FST_OIDC_OPTION' })
  t.equal(issuer, 'https://id.example.com')
})

t.test('S82 registration fails with the error of the option', async (t) => {
  const app = Fastify()
  const error = await app.register(oidc, { ...good, clientId: '' }).ready().then(() => null, (error: unknown) => error)
  t.ok(error instanceof OidcError)
  t.match(error, { code: 'FST_OIDC_OPTION', statusCode: 500, message: '"clientId" must be a non-empty string' })
})

t.test('S54 S82 insecure http is refused in production', async (t) => {
  const before = process.env['NODE_ENV']
  t.teardown(() => { if (before === undefined) delete process.env['NODE_ENV']; else process.env['NODE_ENV'] = before })
  process.env['NODE_ENV'] = 'production'
  t.throws(() => parse({ allowInsecureLoopback: true }), { message: /must not be set in production/ })
  t.doesNotThrow(() => parse({}))
})

t.test('S54 insecure http is logged as a warning', async (t) => {
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => lines.push(line) } } })
  await app.register(oidc, { ...good, allowInsecureLoopback: true })
  t.match(lines.map((line) => JSON.parse(line)), [{ level: 40, msg: /allowInsecureLoopback/ }])
})

t.test('the defaults are those of the type documentation', async (t) => {
  const { baseUrl, routes, providerRoutes, defaultReturnTo, session } = parse({})
  t.match(parseOne({}), {
    timeout: 5,
    maxResponseBytes: 1_048_576,
    clientAuth: 'client_secret_basic',
    scope: 'openid profile email',
    idTokenSigningAlg: 'RS256',
    responseMode: 'query',
    discovery: 'lazy',
    clockTolerance: 30,
    userinfo: false
  })
  t.match(
    { baseUrl, defaultReturnTo },
    { baseUrl: 'https://app.example.com', defaultReturnTo: 'https://app.example.com/' }
  )
  t.same(routes, {
    login: '/auth/login',
    logout: '/auth/logout',
    loggedOut: '/auth/logged-out',
    userinfo: '/auth/userinfo',
    session: '/auth/session'
  })
  t.same(providerRoutes('default'), {
    login: '/auth/login',
    callback: '/auth/callback',
    initiateLogin: null,
    backchannelLogout: '/auth/backchannel-logout',
    frontchannelLogout: '/auth/frontchannel-logout'
  })
  t.match(session, { cookieName: '__Host-oidc', maxAge: 28_800, idleTimeout: 3600, sameSite: 'lax', secure: true })
})

t.test('the options have the meaning of the type documentation', async (t) => {
  t.equal(parseOne({ clientSecret: undefined, clientAuth: 'none' }).clientAuth, 'none', 'K9 a public client by choice')
  t.match(parseOne({ offlineAccess: true }), {
    scope: 'openid profile email offline_access',
    authorizationParams: { prompt: 'consent' }
  })
  t.equal(parseOne({ offlineAccess: true, scope: 'openid offline_access' }).scope, 'openid offline_access')
  t.same(parseOne({ audience: 'api', authorizationParams: { audience: 'other' } }).authorizationParams, {
    audience: 'other'
  })
  t.same(parseOne({ resource: 'https://api' }).resource, ['https://api'])
  t.same(parse({ routes: { prefix: '/', login: '/in', logout: false } }).routes.login, '/in')
  t.equal(parse({ routes: { logout: false } }).routes.logout, null)
  t.equal(parse({ baseUrl: 'https://example.com/app/' }).baseUrl, 'https://example.com/app')
  t.equal(parse({ baseUrl: 'https://example.com/app' }).defaultReturnTo, 'https://example.com/app/')
  t.equal(parse({ defaultReturnTo: '/home' }).defaultReturnTo, 'https://app.example.com/home')
  t.equal(
    parse({ session: { key, maxAge: 60 } }).session.idleTimeout,
    60,
    'idle time is never longer than the absolute one'
  )
  t.equal(parseOne({ expectedIssuer: 'https://other.example.com' }).issuer, 'https://other.example.com')
  t.equal(
    parseOne({ issuer: 'https://id.example.com/realms/a/' }).discoveryUrl,
    'https://id.example.com/realms/a/.well-known/openid-configuration'
  )
  for (const host of ['localhost', 'app.localhost', '127.0.0.1', '127.8.9.10', '[::1]']) {
    t.equal(parse({ allowInsecureLoopback: true, baseUrl: `http://${host}:3000` }).session.cookieName, 'oidc-3000')
    t.equal(parse({ allowInsecureLoopback: true, baseUrl: `http://${host}` }).session.cookieName, 'oidc')
  }
  const nameAt = (port: number): string => {
    const baseUrl = `http://localhost:${port}/${'long'.repeat(20)}`
    return parse({ allowInsecureLoopback: true, baseUrl }).session.cookieName
  }
  t.match(nameAt(3000), /^oidc\.[0-9a-f]{32}$/)
  t.not(nameAt(3000), nameAt(3001))
  t.match(parse({ baseUrl: 'https://example.com:8443' }).session, {
    cookieName: '__Host-oidc-8443', formerName: '__Host-oidc'
  }, 'K2 two ports on https do not meet either')
  t.equal(parse({ baseUrl: 'https://example.com:443' }).session.cookieName, '__Host-oidc')
})

t.test('S37 a secret always makes the same key, and another secret another key', async (t) => {
  const keyOf = (secret: string): string => parse({ session: { secret } }).session.keys[0]?.toString('hex') as string
  t.equal(keyOf('a'.repeat(40)), keyOf('a'.repeat(40)))
  t.not(keyOf('a'.repeat(40)), keyOf('b'.repeat(40)))
  t.equal(parse({ session: { secret: ['a'.repeat(40), 'b'.repeat(40)] } }).session.keys.length, 2)
  t.equal(parse({ session: { key: new Uint8Array(keyBytes(1)) } }).session.keys[0]?.length, 32)
})

t.test('K12 an option that is undefined or empty asks for its environment variable', async (t) => {
  const cases: Array<[options: object, name: string]> = [
    [{ session: { key: undefined } }, 'session.key'],
    [{ session: { key: '' } }, 'session.key'],
    [{ session: { key: [key, undefined] } }, 'session.key'],
    [{ session: { secret: undefined } }, 'session.secret'],
    [{ session: { secret: '' } }, 'session.secret'],
    [{ baseUrl: undefined }, 'baseUrl'],
    [{ baseUrl: 'undefined' }, 'baseUrl'],
    [{ issuer: undefined }, 'issuer'],
    [{ issuer: undefined, discoveryUrl: undefined }, 'issuer'],
    [{ clientId: undefined }, 'clientId'],
    [{ clientId: '' }, 'clientId'],
    [{ clientSecret: '' }, 'clientSecret'],
    [{ clientSecret: undefined, clientKey: undefined }, 'clientSecret'],
    [{ clientSecret: undefined, clientAuth: 'private_key_jwt', clientKey: undefined }, 'clientKey'],
    [{ clientSecret: undefined, clientAuth: 'private_key_jwt', clientKey: '' }, 'clientKey'],
    [{ idTokenEncryption: { alg: 'RSA-OAEP' }, decryptionKey: undefined }, 'decryptionKey'],
    [{ store: '' }, 'store'],
    [{ store: undefined, session: { key, store: true } }, 'store'],
    [{ store: undefined, broker: { audience: 'a' } }, 'store'],
    [{ bearer: { audience: undefined } }, 'bearer.audience'],
    [{ store: 'memory:', broker: { audience: undefined } }, 'broker.audience'],
    [{ store: 'memory:', broker: { audience: 'a', resourceServers: { api: undefined } } }, 'broker.resourceServers.api']
  ]
  for (const [options, name] of cases) {
    const message = new RegExp(`^"${name.replaceAll('.', '\\.')}" is (?:undefined|empty): is its environment variable set\\?`)
    t.throws(() => parse(options), { code: 'FST_OIDC_OPTION', message }, `${name} ${JSON.stringify(options)}`)
  }
  t.ok(parse({ store: undefined, jwksUri: undefined, discoveryUrl: undefined }), 'what has a default may be undefined')
})

t.test('K12 http is for loopback addresses', async (t) => {
  const message = /^"baseUrl": http is for loopback addresses only/
  t.throws(() => parse({ baseUrl: 'http://app.example.com' }), { message })
  t.throws(() => parse({ baseUrl: 'http://app.example.com', allowInsecureLoopback: true }), { message })
  t.throws(() => parse({ issuer: 'http://10.0.0.1' }), { message: /^"issuer": http is for loopback addresses only/ })
  t.ok(parse({ baseUrl: 'http://localhost' }))
  t.ok(parse({ baseUrl: 'http://localhost', allowInsecureLoopback: true }))
})

t.test('K12 a key is base64 or base64url of 32 random bytes', async (t) => {
  const bytes = Buffer.concat([Buffer.from([0xfb, 0xff, 0xfe]), keyBytes(2).subarray(3)])
  const padded = bytes.toString('base64')
  const good = [padded, padded.slice(0, -1), bytes.toString('base64url'), `${bytes.toString('base64url')}=`, bytes]
  for (const value of good) t.same(parse({ session: { key: value } }).session.keys, [bytes], JSON.stringify(value))
  const few = Buffer.from(Array.from({ length: 32 }, (_, index) => index % 15))
  const wrong: unknown[] = [
    'correcthorsebatterystaplecorrecthorsebattes', 'CorrectHorseBatteryStapleCorrectHorseBattes',
    `${padded.slice(0, 42)}B=`, `${padded.slice(0, 20)} ${padded.slice(20)}`, `${padded}\n`, `${padded}=`,
    padded.replace('+', '*'), bytes.toString('hex'), Buffer.alloc(32, 7), Buffer.alloc(32, 7).toString('base64'),
    few, few.toString('base64'), bytes.subarray(1), bytes.subarray(1).toString('base64')
  ]
  for (const value of wrong) {
    t.throws(() => parse({ session: { key: value } }), { message: /^"session.key" must be 32 bytes/ }, JSON.stringify(value))
  }
  const enough = Buffer.from(Array.from({ length: 32 }, (_, index) => index % 16))
  t.same(parse({ session: { key: enough } }).session.keys, [enough])
  fc.assert(fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (random) => {
    fc.pre(new Set(random).size >= 16)
    const texts = [Buffer.from(random).toString('base64'), Buffer.from(random).toString('base64url')]
    for (const text of texts) t.same(parse({ session: { key: text } }).session.keys, [Buffer.from(random)])
  }))
})
