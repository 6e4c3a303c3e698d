import { generateKeyPairSync } from 'node:crypto'
import { CompactEncrypt } from 'jose'
import t from 'tap'
import { createKeySet } from '../../lib/provider/key-set.ts'
import { verifyOwnAccessToken } from '../../lib/provider/own-access-token.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { silentLog } from '../support/app.ts'
import type { Test } from 'tap'
import type { AccessTokenOptions, TokenOptions } from '../../lib/testing/index.ts'

/** Verifies a token for the user alice and the client web. */
async function start (t: Test) {
  const provider = await startProvider({ users: [{ sub: 'alice' }, { sub: 'bob' }] })
  t.teardown(async () => await provider.close())
  const keySet = createKeySet(`${provider.issuer}/jwks`, async (url, init) => await fetch(url, init), silentLog)
  const verifier = { keySet, issuers: [provider.issuer], clockTolerance: 30 }
  const verify = async (token: string) => await verifyOwnAccessToken(token, verifier, { clientId: 'web', sub: 'alice' })
  return {
    provider,
    verify,
    made: async (options: AccessTokenOptions = {}) => await verify(provider.accessToken(options)),
    idToken: async (options: TokenOptions = {}) => await verify(provider.idToken(options))
  }
}

const now = (): number => Math.floor(Date.now() / 1000)
const drop = (...names: string[]): AccessTokenOptions =>
  ({ overrides: Object.fromEntries(names.map((name) => [name, undefined])) })

t.test('K15 the access token of this client and user is read, in the forms of well-known providers', async (t) => {
  const { made, provider } = await start(t)
  const cases: Array<[string, AccessTokenOptions]> = [
    ['RFC 9068', {}],
    ['an audience that is an API', { overrides: { aud: 'https://api.example.com' } }],
    ['Keycloak', { header: { typ: 'JWT' }, overrides: { typ: 'Bearer', azp: 'web', client_id: undefined, nonce: 'n' } }],
    ['Keycloak with at+jwt', { overrides: { azp: 'web', client_id: undefined } }],
    ['no type in the header', { header: { typ: undefined }, overrides: { azp: 'web', client_id: undefined } }],
    ['Amazon Cognito', { header: { typ: undefined }, overrides: { token_use: 'access', aud: undefined } }],
    ['both, and the same', { overrides: { azp: 'web' } }],
    ['another algorithm', { signWith: 'ES256' }],
    ['a clock that is a little behind', { overrides: { exp: now() - 10 } }]
  ]
  for (const [title, options] of cases) t.match(await made(options), { iss: provider.issuer, sub: 'alice' }, title)
})

t.test('K15 an access token that proves nothing about this user and client is refused, with the reason', async (t) => {
  const { made, idToken, verify, provider } = await start(t)
  const other = await startProvider({ users: [{ sub: 'alice' }] })
  t.teardown(async () => await other.close())
  const cases: Array<[string, () => Promise<unknown>, RegExp]> = [
    ['another client in azp', async () => await made({ overrides: { azp: 'shop' } }), /another client/],
    ['another client in client_id', async () => await made({ overrides: { client_id: 'shop' } }), /another client/],
    ['client_id of us, azp of another', async () => await made({ overrides: { azp: 'shop', client_id: 'web' } }),
      /another client/],
    ['azp of us, client_id of another', async () => await made({ overrides: { azp: 'web', client_id: 'shop' } }),
      /another client/],
    ['azp is a list', async () => await made({ overrides: { azp: ['web'] } }), /another client/],
    ['azp is null', async () => await made({ overrides: { azp: null } }), /another client/],
    ['neither', async () => await made(drop('client_id', 'azp')), /neither azp nor client_id/],
    ['only the audience is us', async () => await made({ overrides: { client_id: undefined, aud: 'web' } }), /neither/],
    ['another user', async () => await made({ sub: 'bob' }), /its sub is not that of the ID token/],
    ['another spelling', async () => await made({ overrides: { sub: 'Alice' } }), /its sub is not/],
    ['no sub', async () => await made(drop('sub')), /"sub"/],
    ['another issuer in iss', async () => await made({ overrides: { iss: 'https://else.example.com' } }), /"iss"/],
    ['no iss', async () => await made(drop('iss')), /"iss"/],
    ['another issuer, with its own keys', async () => await verify(other.accessToken({ sub: 'alice' })), /./],
    ['expired', async () => await made({ overrides: { exp: now() - 31 } }), /"exp"/],
    ['no exp', async () => await made(drop('exp')), /"exp"/],
    ['not valid yet', async () => await made({ overrides: { nbf: now() + 300 } }), /"nbf"/],
    ['a broken signature', async () => await made({ signWith: 'broken-signature' }), /signature/],
    ['a key of an attacker', async () => await made({ signWith: 'other-key' }), /signature/],
    ['no signature', async () => await made({ signWith: 'none' }), /./],
    ['HS256 with the public key', async () => await made({ signWith: 'public-pem' }), /alg/],
    ['HS256 with the secret', async () => await made({ signWith: 'client-secret' }), /alg/],
    ['an ID token', async () => await idToken(), /./],
    ['an ID token that says azp', async () => await idToken({ overrides: { azp: 'web' } }), /no claim says/],
    ['an ID token with at_hash', async () => await idToken({ overrides: { azp: 'web', at_hash: 'x', scope: 'a' } }),
      /a claim says that it is not/],
    ['an ID token with a nonce', async () => await idToken({ overrides: { azp: 'web', nonce: 'x', scope: 'a' } }),
      /a claim says that it is not/],
    ['typ ID in the claims', async () => await made({ overrides: { typ: 'ID' } }), /a claim says that it is not/],
    ['typ Refresh in the claims', async () => await made({ overrides: { typ: 'Refresh' } }), /a claim says that/],
    ['token_use id', async () => await made({ overrides: { token_use: 'id' } }), /a claim says that it is not/],
    ['a logout token', async () => await made({ overrides: { events: {} } }), /a claim says that it is not/],
    ['another typ in the header', async () => await made({ header: { typ: 'logout+jwt' } }), /logout\+jwt/],
    ['a typ that is no text', async () => await made({ header: { typ: 5 } }), /typ in its header is 5/],
    ['of a client, by a sign', async () => await made({ overrides: { gty: 'client-credentials' } }), /of a client/],
    ['of a client, whose name is the sub', async () => await verify(provider.accessToken({
      overrides: { sub: 'web', client_id: 'web' }
    })), /its sub is not/],
    ['opaque', async () => await verify('opaque-token'), /not a JWT/],
    ['opaque, with dots', async () => await verify('a.b.c'), /not a JWT/],
    ['a header without alg', async () => await verify('e30.e30.'), /not a JWT/],
    ['empty', async () => await verify(''), /not a JWT/],
    ['encrypted', async () => await verify(await encrypted()), /encrypted/]
  ]
  for (const [title, attempt, detail] of cases) {
    await t.rejects(attempt(), { code: 'FST_OIDC_TOKEN', detail }, title)
  }
  const service = { overrides: { preferred_username: 'service-account-jobs' } }
  await t.rejects(made(service), { code: 'FST_OIDC_FORBIDDEN' }, 'neither a user nor a client')
})

async function encrypted (): Promise<string> {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const text = new TextEncoder().encode(JSON.stringify({ sub: 'alice', realm_access: { roles: ['admin'] } }))
  return await new CompactEncrypt(text).setProtectedHeader({ alg: 'RSA-OAEP', enc: 'A128GCM' }).encrypt(publicKey)
}
