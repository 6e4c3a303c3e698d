import { createLocalJWKSet, jwtVerify } from 'jose'
import { isRefusal, refusal } from './answer.ts'
import type { JWTPayload, JWTVerifyOptions } from 'jose'
import type { Context, Exchange } from './context.ts'
import type { ClientAuthMethod, ProviderClient } from './options.ts'
import type { ProviderRequest } from './types.ts'

const assertionType = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

const invalid = (description: string) => refusal('invalid_client', description, 401)

export const findClient = (context: Context, client_id: string | undefined): ProviderClient => {
  const client = context.clients.find((client) => client.client_id === client_id)
  if (!client) throw invalid('unknown client')
  return client
}

// Both parts are form-encoded before they are joined (RFC 6749, section 2.3.1)
const decodeBasic = (header: string): string[] => {
  try {
    return Buffer.from(header.slice(6), 'base64').toString().split(':')
      .map((part) => decodeURIComponent(part.replaceAll('+', ' ')))
  } catch {
    throw invalid('the Authorization header is not form-encoded')
  }
}

const checkSecret = (client: ProviderClient, secret: string | undefined): ProviderClient => {
  if (!client.client_secret || client.client_secret !== secret) throw invalid('wrong client secret')
  return client
}

const basic = (context: Context, { headers }: ProviderRequest): ProviderClient => {
  const [client_id, secret] = decodeBasic(headers.authorization as string)
  return checkSecret(findClient(context, client_id), secret)
}

const post = (context: Context, { body }: ProviderRequest): ProviderClient =>
  checkSecret(findClient(context, body.client_id), body.client_secret)

const verifyAssertion = (client: ProviderClient, jwt: string, method: ClientAuthMethod, options: JWTVerifyOptions) =>
  method === 'client_secret_jwt'
    ? jwtVerify(jwt, Buffer.from(client.client_secret ?? ''), { ...options, algorithms: ['HS256'] })
    : jwtVerify(jwt, createLocalJWKSet(client.jwks ?? { keys: [] }), options)

const useOnce = (context: Context, { jti }: JWTPayload): void => {
  if (!jti || context.assertions.has(jti)) throw invalid('the client assertion has been used')
  context.assertions.add(jti)
}

const assertionPart = (jwt: string, index: number): Record<string, unknown> => {
  try {
    return JSON.parse(Buffer.from(jwt.split('.')[index]!, 'base64url').toString()) as Record<string, unknown>
  } catch {
    throw invalid('the client assertion is not a JWT')
  }
}

const assertionSubject = (jwt: string): string => String(assertionPart(jwt, 1).sub)

// RFC 7523, section 3
const assertion = (method: ClientAuthMethod) => async (context: Context, { body, path }: ProviderRequest) => {
  const jwt = body.client_assertion!
  const client = findClient(context, assertionSubject(jwt))
  const audience = [context.issuer, `${context.url}${path}`]
  const { payload } = await verifyAssertion(client, jwt, method, {
    issuer: client.client_id, subject: client.client_id, audience, requiredClaims: ['exp', 'jti']
  }).catch((cause: Error) => { throw invalid(`client assertion: ${cause.message}`) })
  useOnce(context, payload)
  return client
}

const certificate = (context: Context, { body, clientCertificate }: ProviderRequest): ProviderClient => {
  const client = findClient(context, body.client_id)
  if (client.tls_client_auth_subject_dn !== clientCertificate) throw invalid('wrong client certificate')
  return client
}

const open = (context: Context, { body }: ProviderRequest): ProviderClient => {
  const client = findClient(context, body.client_id)
  const { client_secret, jwks, tls_client_auth_subject_dn } = client
  if (client_secret ?? jwks ?? tls_client_auth_subject_dn) throw invalid('client authentication is required')
  return client
}

type Authenticate = (context: Context, request: ProviderRequest) => ProviderClient | Promise<ProviderClient>

const methods: Record<ClientAuthMethod, Authenticate> = {
  client_secret_basic: basic,
  client_secret_post: post,
  client_secret_jwt: assertion('client_secret_jwt'),
  private_key_jwt: assertion('private_key_jwt'),
  tls_client_auth: certificate,
  none: open
}

const assertionMethod = ({ body }: ProviderRequest): ClientAuthMethod => {
  if (body.client_assertion_type !== assertionType) throw invalid('unknown client_assertion_type')
  return String(assertionPart(body.client_assertion!, 0).alg).startsWith('HS') ? 'client_secret_jwt' : 'private_key_jwt'
}

const usedMethods = (request: ProviderRequest): ClientAuthMethod[] => {
  const used: ClientAuthMethod[] = []
  if (/^basic /i.test(String(request.headers.authorization))) used.push('client_secret_basic')
  if (request.body.client_secret !== undefined) used.push('client_secret_post')
  if (request.body.client_assertion !== undefined) used.push(assertionMethod(request))
  if (used.length > 0) return used
  return [request.clientCertificate === undefined ? 'none' : 'tls_client_auth']
}

const identify = async ({ context, request }: Exchange): Promise<ProviderClient> => {
  const [method, another] = usedMethods(request)
  if (another) throw refusal('invalid_request', 'more than one client authentication method')
  const client = await methods[method!](context, request)
  const registered = client.token_endpoint_auth_method
  if (registered && registered !== method) throw invalid(`the client is registered for ${registered}`)
  return client
}

// A client that used the Authorization header gets the scheme in the response (RFC 6749, section 5.2)
const withChallenge = (error: unknown, { headers }: ProviderRequest): unknown => {
  if (isRefusal(error) && error.answer.status === 401 && headers.authorization) {
    error.answer.headers['www-authenticate'] = 'Basic realm="provider"'
  }
  return error
}

/** Authenticates the client by exactly one method (RFC 6749, section 2.3): the one that is registered for it. */
export const authenticateClient = async (exchange: Exchange): Promise<ProviderClient> => {
  try {
    return await identify(exchange)
  } catch (error) {
    throw withChallenge(error, exchange.request)
  }
}
