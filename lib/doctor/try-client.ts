import { randomBytes } from 'node:crypto'
import { createProvider } from '../provider/provider.ts'
import { texts } from './inspect-metadata.ts'
import { detailOf, finding } from './report.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { OidcError } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Connections } from '../provider/connections.ts'
import type { Attempt, ClientReport, Finding } from './report.ts'
import type { ClientAuth, ProviderMetadata } from '../../types/options.ts'

/** How a client authenticates. */
interface Method {
  clientAuth: ClientAuth
  basicEncoding?: 'raw'
}

export interface TriedClient {
  client: ClientReport
  findings: Finding[]
}

/** The methods that need nothing but a secret, the usual ones first. */
const SECRET_METHODS: ClientAuth[] = ['client_secret_basic', 'client_secret_post', 'client_secret_jwt']
/** OpenID Connect Discovery 1.0, section 3: where the metadata says nothing. */
const STANDARD = ['client_secret_basic']

/**
 * Tries the client with each method that the provider offers, by a token request whose code does not exist. The
 * provider must refuse the code, not the client (RFC 6749, section 5.2). That ends no session and uses nothing up.
 */
export async function tryClient (
  settings: ProviderSettings,
  metadata: ProviderMetadata,
  { redirectUri, ...parts }: { redirectUri: string, log: FastifyBaseLogger, connections: Connections }
): Promise<TriedClient> {
  const attempts: Attempt[] = []
  for (const method of await methodsFor(settings, metadata)) {
    // A secret that has got through needs no other encoding.
    const isNeedless = method.basicEncoding !== undefined && attempts.some(({ result }) => result === 'accepted')
    if (!isNeedless) attempts.push(await tryMethod(settings, metadata, method, { redirectUri, ...parts }))
  }
  return { client: { clientId: settings.clientId, attempts }, findings: conclude(attempts, settings, metadata) }
}

async function methodsFor (settings: ProviderSettings, metadata: ProviderMetadata): Promise<Method[]> {
  const { clientAuth, clientId, clientSecret } = settings
  if (clientAuth === 'none') return [{ clientAuth }]
  const offered = texts(metadata['token_endpoint_auth_methods_supported']) ?? STANDARD
  const methods = SECRET_METHODS.filter((method) => offered.includes(method)).map((clientAuth) => ({ clientAuth }))
  const isEncoded = /[^\w.*-]/.test(clientId + await clientSecret())
  // Raw, an identifier with a colon would end before it.
  const canBeRaw = isEncoded && !clientId.includes(':') && offered.includes('client_secret_basic')
  return canBeRaw ? [...methods, { clientAuth: 'client_secret_basic', basicEncoding: 'raw' }] : methods
}

async function tryMethod (
  settings: ProviderSettings,
  metadata: ProviderMetadata,
  method: Method,
  { redirectUri, log, connections }: { redirectUri: string, log: FastifyBaseLogger, connections: Connections }
): Promise<Attempt> {
  const own = { ...settings, ...method, metadata, needsDiscovery: false }
  const code = `fastify-oidc-doctor-${randomBytes(16).toString('hex')}`
  const params = { code, redirect_uri: redirectUri, code_verifier: randomBytes(32).toString('base64url') }
  try {
    await createProvider(own, log, connections).grant('authorization_code', params)
    return { ...method, result: 'failed', detail: 'the provider issued tokens for a code that does not exist' }
  } catch (error) {
    return { ...method, ...outcomeOf(error as OidcError) }
  }
}

function outcomeOf (error: OidcError): Pick<Attempt, 'result' | 'detail'> {
  const detail = detailOf(error)
  if (error.code === 'FST_OIDC_CLIENT_AUTHENTICATION') return { result: 'refused', detail }
  if (error.oauthError === 'invalid_grant' || error.code === 'FST_OIDC_LOGIN_REQUIRED') {
    return { result: 'accepted', detail: 'the provider refused the code, and not the client' }
  }
  return { result: error.code === 'FST_OIDC_GRANT' ? 'unclear' : 'failed', detail }
}

function conclude (attempts: Attempt[], settings: ProviderSettings, metadata: ProviderMetadata): Finding[] {
  const { clientAuth: standard } = settings
  if (attempts.length === 0) {
    const offered = texts(metadata['token_endpoint_auth_methods_supported']) as string[]
    return [finding(
      'error', 'client_methods',
      `a secret does not go with the methods of the provider: ${offered.slice(0, 20).join(' ')}`,
      'With private_key_jwt, set "clientKey" in place of "clientSecret"; with tls_client_auth, set ' +
        '"dispatcher"; with none, leave the secret out'
    )]
  }
  const accepted = attempts.find(({ result }) => result === 'accepted')
  if (accepted !== undefined) return acceptedBy(accepted, standard)
  const unclear = attempts.find(({ result }) => result === 'unclear')
  if (unclear !== undefined) {
    return [finding(
      'warning', 'client_unclear',
      `${unclear.clientAuth}: ${unclear.detail}`,
      'The provider refused the request before it looked at the code. Try a login, by --login'
    )]
  }
  const [first] = attempts as [Attempt]
  const isRefused = attempts.every(({ result }) => result === 'refused')
  return [isRefused
    ? finding('error', 'client_refused', `${first.clientAuth}: ${first.detail}`, adviceFor(settings))
    : finding(
      'error', 'client_failed',
      `${first.clientAuth}: ${first.detail}`,
      'Look at the log of the provider, and try again'
    )]
}

function acceptedBy ({ clientAuth, basicEncoding }: Attempt, standard: ClientAuth): Finding[] {
  if (basicEncoding !== undefined) {
    return [finding(
      'warning', 'client_auth',
      'the provider does not decode the credentials of client_secret_basic',
      'Set "basicEncoding" to raw',
      { basicEncoding }
    )]
  }
  return clientAuth === standard
    ? []
    : [finding(
        'warning', 'client_auth',
        `the provider accepts the client by ${clientAuth}, and not by ${standard}`,
        `Set "clientAuth" to ${clientAuth}`,
        { clientAuth }
      )]
}

function adviceFor ({ clientAuth }: ProviderSettings): string {
  return clientAuth === 'none'
    ? 'Check the identifier of the client. If it has a secret, name the variable with the secret by --client-secret-env'
    : 'Check the identifier and the secret of the client; the log of the provider often says which of them is wrong'
}
