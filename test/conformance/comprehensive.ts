import assert from 'node:assert/strict'
import { faults } from '../../lib/testing/index.ts'
import { withFormPost } from './basic.ts'
import { accepts, beRefused, logIn, refuses } from './flows.ts'
import type { ClientAuth } from '../../index.ts'
import type { RunModule } from './module.ts'
import type { Setup, Start } from './party.ts'

const plan = 'oidcc-client-test-plan'
const id = 'oidcc-client-test'
const reject = 'reject, no UserInfo request'
const number = 'extra'
const es256: Setup = { client: { id_token_signed_response_alg: 'ES256' }, options: { idTokenSigningAlg: 'ES256' } }

/** What the comprehensive plan has beside the others, and its other ways of client authentication. */
export const comprehensiveModules: RunModule[] = [
  { number, id: `${id}-missing-aud`, plan, provider: 'no aud in the ID token', required: reject, run: refuses(faults['missing-aud'], { code: 'FST_OIDC_ID_TOKEN' }) },
  { number, id: `${id}-invalid-sig-hs256`, plan, provider: 'a broken HS256 signature', required: reject, run: refuses(faults['invalid-sig-hs256'], { code: 'FST_OIDC_ID_TOKEN' }) },
  { number, id: `${id}-invalid-sig-es256`, plan, provider: 'a broken ES256 signature, where ES256 is registered', required: reject, run: refuses(faults['invalid-sig-es256'], { code: 'FST_OIDC_ID_TOKEN' }, es256) },
  { number, id: `${id}-userinfo-bearer-header`, plan, provider: 'takes the access token in the header only', required: 'send it there', run: bearerHeader },
  { number, id: `${id}-ignores-unparseable-key-in-jwks`, plan, provider: 'keys of unknown types beside its own', required: 'ignore them, accept', run: accepts(faults['jwks-unknown-keys']) },
  { number, id: `${id}-form-post-error`, plan, provider: 'login_required, in a form', required: 'ask with prompt=none and max_age=0, show an error', run: formPostError },
  withClientAuth('client_secret_post'),
  withClientAuth('client_secret_jwt'),
  withClientAuth('none')
]

function withClientAuth (method: ClientAuth): RunModule {
  const client = { token_endpoint_auth_method: method, ...(method === 'none' && { client_secret: undefined }) }
  const run = accepts([], { client, options: { clientAuth: method } })
  return { number, id, variant: `client_auth_type=${method}`, plan, provider: `takes ${method} only`, required: 'log in, UserInfo included', run }
}

async function bearerHeader (start: Start): Promise<string> {
  const party = await start()
  const happened = await logIn(party)
  const sent = party.provider.requests.filter(({ endpoint }) => endpoint === 'userinfo')
  assert.deepEqual(sent.map(({ method, headers, rawBody }) => [method, headers.authorization, rawBody]), [['GET', `Bearer ${party.issued[0]?.['access_token']}`, '']], 'the token is in the header, nothing in the body')
  return `${happened} with the token in the Authorization header`
}

async function formPostError (start: Start): Promise<string> {
  const party = await start(withFormPost())
  const happened = await beRefused(party, { code: 'FST_OIDC_PROVIDER_REFUSED', token: 0 }, '/silent')
  const { query } = party.provider.requests.find(({ endpoint }) => endpoint === 'authorize') ?? assert.fail()
  assert.deepEqual([query['prompt'], query['max_age']], ['none', '0'], 'prompt and max_age')
  await logIn(party)
  return happened
}
