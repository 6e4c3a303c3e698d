import { SignJWT, generateKeyPair, jwtVerify } from 'jose'
import t from 'tap'
import { verifyJwt } from '../../lib/provider/verify-jwt.ts'
import { client } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor, stopClock } from '../support/app.ts'
import { JWT, captureLog } from '../support/protocol.ts'
import { startedProvider } from '../support/started.ts'
import type { JWTPayload, JWTVerifyOptions } from 'jose'
import type { Fault } from '../../lib/testing/index.ts'

const RULES: JWTVerifyOptions = {
  issuer: 'https://id.example.com',
  audience: 'web',
  algorithms: ['RS256'],
  requiredClaims: ['exp', 'sub']
}
const REFUSAL = {
  code: 'FST_OIDC_TOKEN',
  compared: { alg: '"alg option"', iss: '"iss option"', aud: '"aud option"' }
} as const

t.test('K12 the refusal of a JWT says what came, what was expected and which option to change', async (t) => {
  stopClock(t)
  const time = Date.now() / 1000
  const { publicKey, privateKey } = await generateKeyPair('RS256')
  const other = await generateKeyPair('ES384')
  const keySet = { verify: async (token: string, rules: JWTVerifyOptions) => await jwtVerify(token, publicKey, rules) }
  const right = { iss: 'https://id.example.com', aud: 'web', sub: 'alice', exp: time + 60 }
  const sign = async (claims: JWTPayload, alg = 'RS256', key = privateKey): Promise<string> =>
    await new SignJWT({ ...right, ...claims }).setProtectedHeader({ alg, kid: 'k1' }).sign(key)
  const detailOf = async (token: string, rules = RULES): Promise<string | undefined> =>
    await verifyJwt(token, keySet, rules, REFUSAL).then(() => undefined, ({ detail }) => detail)

  t.equal(await detailOf(await sign({})), undefined, 'a right one passes')
  const cases: Array<[claims: JWTPayload, detail: RegExp]> = [
    [{ exp: time - 7200 }, /: exp is 7,200 s ago: compare the clocks, or raise "clockTolerance"$/],
    [{ nbf: time + 90 }, /: nbf is 90 s ahead: compare the clocks, or raise "clockTolerance"$/],
    [{ iss: 'https://evil.example' }, /: iss was https:\/\/evil\.example, "iss option" is https:\/\/id\.example\.com$/],
    [{ aud: ['api', 'é'] }, /: aud was \["api","\?"\], "aud option" is web$/],
    [{ iss: 'x'.repeat(5000) }, /: iss was x{200}, "iss option" is /],
    [{ sub: undefined as unknown as string }, /^missing required "sub" claim$/],
    [{ exp: 'tomorrow' as unknown as number }, /^"exp" claim must be a number$/]
  ]
  for (const [claims, detail] of cases) t.match(await detailOf(await sign(claims)), detail)
  t.match(await detailOf(await sign({}, 'ES384', other.privateKey)), /: signed with ES384, "alg option" is \["RS256"\]$/)
  t.equal(await detailOf(`${(await sign({})).slice(0, -9)}${'A'.repeat(9)}`), 'signature verification failed')
  t.equal(await detailOf('no token'), 'Invalid Compact JWS')
})

t.test('K12 the log of a refused ID token is for the one who can mend it', async (t) => {
  const provider = await startedProvider(t)
  const { lines, server } = captureLog()
  const app = await buildApp(t, optionsFor(provider), server)
  const seconds = Math.floor(Date.now() / 1000)
  const cases: Array<[fault: Omit<Fault, 'on'>, level: number, detail: RegExp]> = [
    [{ idToken: (claims) => ({ ...claims, iss: 'https://evil.example' }) }, 50, /iss was https:\/\/evil\.example, "issuer" is http:/],
    [{ idToken: (claims) => ({ ...claims, aud: 'api' }) }, 50, /aud was api, "clientId" is web/],
    [{ signWith: 'ES256' }, 50, /signed with ES256, "idTokenSigningAlg" is \["RS256"\]/],
    [{ idToken: (claims) => ({ ...claims, exp: seconds - 7200 }) }, 40, /exp is 7,2\d\d s ago: .*"clockTolerance"/],
    [{ idToken: (claims) => ({ ...claims, iat: seconds + 7200 }) }, 40, /^iat is 7,\d\d\d s ahead: .*"clockTolerance"/],
    [{ signWith: 'unknown-kid' }, 40, /^no applicable key found in the JSON Web Key Set: kid .*, alg RS256$/]
  ]
  for (const [fault, level, detail] of cases) {
    const off = provider.fault({ on: 'token', ...fault })
    const before = lines().length
    t.equal((await client({ app, baseUrl: BASE_URL }).goto('/auth/login')).status, 403)
    off()
    const line = lines().slice(before).split('\n').find((text) => text.includes('FST_OIDC_ID_TOKEN')) as string
    t.match(JSON.parse(line), { level, detail })
    t.notMatch(line, JWT)
  }
})
