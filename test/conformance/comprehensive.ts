import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { Agent } from 'undici'
import { faults, testCertificate } from '../../lib/testing/index.ts'
import { idTokenRefused, withFormPost } from './basic.ts'
import { BASE_URL } from '../support/app.ts'
import { accepts, beRefused, checkLoggedOut, logIn } from './flows.ts'
import type { JWK } from 'jose'
import type { ClientAuth } from '../../index.ts'
import type { RunModule } from './module.ts'
import type { Setup, Start } from './party.ts'

const plan = 'oidcc-client-test-plan'
const id = 'oidcc-client-test'
const number = 'extra'
const es256: Setup = { client: { id_token_signed_response_alg: 'ES256' }, options: { idTokenSigningAlg: 'ES256' } }

/** The other modules of the comprehensive plan, and its other methods of client authentication. */
export const comprehensiveModules: RunModule[] = [
  idTokenRefused(number, plan, 'missing-aud', 'no aud in the ID token'),
  idTokenRefused(number, plan, 'invalid-sig-hs256', 'a broken HS256 signature'),
  idTokenRefused(number, plan, 'invalid-sig-es256', 'a broken ES256 signature, where ES256 is registered', es256),
  {
    number,
    id: `${id}-userinfo-bearer-header`,
    plan,
    provider: 'accepts the access token only in the header',
    required: 'send it there',
    run: bearerHeader
  },
  {
    number,
    id: `${id}-ignores-unparseable-key-in-jwks`,
    plan,
    provider: 'keys of unknown types in addition to its own',
    required: 'ignore them, accept',
    run: accepts(faults['jwks-unknown-keys'])
  },
  {
    number,
    id: `${id}-form-post-error`,
    plan,
    provider: 'login_required, in a form',
    required: 'send prompt=none and max_age=0, do not log in',
    run: formPostError
  },
  withClientAuth('client_secret_post'),
  withClientAuth('client_secret_jwt'),
  withClientAuth('none'),
  {
    number,
    id,
    variant: 'client_auth_type=private_key_jwt',
    plan,
    provider: 'accepts only private_key_jwt',
    required: 'log in, and call UserInfo',
    run: privateKeyJwt
  },
  {
    number,
    id: `${id}-mtls-endpoint-aliases`,
    plan,
    provider: 'other endpoints for mutual TLS',
    required: 'use them',
    run: mtlsAliases
  },
  {
    number,
    id: `${id}-userinfo-signed`,
    plan: 'oidcc-client-dynamic-certification-test-plan',
    provider: 'UserInfo as a signed JWT',
    required: 'verify it',
    run: signedUserinfo
  },
  {
    number: 'C38',
    id: `${id}-3rd-party-init-login`,
    plan: 'oidcc-client-test-3rd-party-init-login-test-plan',
    provider: 'sends the browser to initiate_login_uri',
    required: 'start a login with the configured issuer',
    run: thirdParty
  }
]

function withClientAuth (method: ClientAuth): RunModule {
  const client = { token_endpoint_auth_method: method, ...(method === 'none' && { client_secret: undefined }) }
  const run = accepts([], { client, options: { clientAuth: method } })
  return {
    number,
    id,
    variant: `client_auth_type=${method}`,
    plan,
    provider: `accepts only ${method}`,
    required: 'log in, and call UserInfo',
    run
  }
}

async function bearerHeader (start: Start): Promise<string> {
  const party = await start()
  const happened = await logIn(party)
  const sent = party.provider.requests.filter(({ endpoint }) => endpoint === 'userinfo')
  assert.deepEqual(
    sent.map(({ method, headers, rawBody }) => [method, headers.authorization, rawBody]),
    [['GET', `Bearer ${party.issued[0]?.['access_token']}`, '']],
    'the token is in the header, and the body is empty'
  )
  return `${happened} with the token in the Authorization header`
}

async function formPostError (start: Start): Promise<string> {
  const party = await start(withFormPost())
  const page = await party.browser.goto('/silent')
  assert.deepEqual([page.url, page.status], [`${BASE_URL}/`, 200], 'the browser comes back without a login')
  assert.equal(party.provider.count('token'), 0, 'no token request')
  await checkLoggedOut(party)
  const { query } = party.provider.requests.find(({ endpoint }) => endpoint === 'authorize') ?? assert.fail()
  assert.deepEqual([query['prompt'], query['max_age']], ['none', '0'], 'prompt and max_age')
  await logIn(party)
  return 'came back anonymous; no token request, no session'
}

async function privateKeyJwt (start: Start): Promise<string> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const client: Setup['client'] = {
    token_endpoint_auth_method: 'private_key_jwt',
    client_secret: undefined,
    jwks: { keys: [publicKey.export({ format: 'jwk' }) as JWK] }
  }
  return await logIn(await start({ client, options: { clientSecret: undefined, clientKey: privateKey } as never }))
}

async function mtlsAliases (start: Start): Promise<string> {
  const [server, own] = [testCertificate(), testCertificate('web')]
  const agent = new Agent({ connect: { ca: server.cert, ...own } })
  const client = {
    token_endpoint_auth_method: 'tls_client_auth',
    client_secret: undefined,
    tls_client_auth_subject_dn: 'CN=web'
  } as const
  const party = await start({
    client,
    provider: { tls: { ...server, requestCert: true, rejectUnauthorized: false } },
    options: { clientSecret: undefined, clientAuth: 'tls_client_auth', dispatcher: agent } as never
  })
  party.provider.fault({
    on: 'metadata',
    metadata: (document) => {
      document['mtls_endpoint_aliases'] = {
        token_endpoint: `${String(document['token_endpoint'])}?mtls`,
        userinfo_endpoint: `${String(document['userinfo_endpoint'])}?mtls`
      }
    }
  })
  const happened = await logIn(party)
  const asked = party.provider.requests.filter(({ endpoint }) => endpoint === 'token' || endpoint === 'userinfo')
  assert.ok(
    asked.length === 2 &&
      asked.every(({ query, clientCertificate }) => 'mtls' in query && clientCertificate === 'CN=web'),
    'token and UserInfo are called at the aliases, with the certificate'
  )
  await agent.close()
  return `${happened} at the aliases, with the certificate`
}

async function signedUserinfo (start: Start): Promise<string> {
  const setup: Setup = { client: { userinfo_signed_response_alg: 'RS256' }, options: { userinfoSigningAlg: 'RS256' } }
  const happened = await logIn(await start(setup))
  const plain = await start({ options: { userinfoSigningAlg: 'RS256' } })
  await beRefused(plain, { code: 'FST_OIDC_USERINFO', userinfo: 1 })
  return `${happened} as a signed JWT; plain JSON was refused`
}

async function thirdParty (start: Start): Promise<string> {
  const party = await start({ options: { routes: { initiateLogin: 'initiate-login' } } })
  const { browser, provider } = party
  const query = new URLSearchParams({ iss: provider.issuer, login_hint: 'alice', target_link_uri: `${BASE_URL}/me` })
  const page = await browser.goto(`/auth/initiate-login?${query.toString()}`, { from: provider.issuer })
  assert.equal(page.url, `${BASE_URL}/me`, 'the browser arrives at the target')
  assert.equal(
    provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['login_hint'],
    'alice',
    'the hint is passed on'
  )
  const foreign = await start({ options: { routes: { initiateLogin: 'initiate-login' } } })
  const refused = await foreign.browser.goto(`/auth/initiate-login?${query.toString()}`)
  assert.equal(refused.status, 400, 'another issuer is refused')
  assert.equal(foreign.provider.count('authorize'), 0)
  return 'logged in with the hint, and arrived at the target; another issuer was refused'
}
