import { OidcError, checkWith } from '../errors.ts'
import { isRecord } from '../util/json.ts'
import { isPage, readJson } from './json-response.ts'
import { describeResponse, insteadOf, jsonInsteadOf } from './transport.ts'
import type { Check } from '../errors.ts'
import type { Fetch, ProviderMetadata } from '../../types/options.ts'

type Body = Record<string, unknown>

/** The endpoints at which this client authenticates. */
const ENDPOINTS = {
  token_endpoint: { status: 200, proof: 'access_token' },
  device_authorization_endpoint: { status: 200, proof: 'device_code' },
  pushed_authorization_request_endpoint: { status: 201, proof: 'request_uri' },
  introspection_endpoint: { status: 200, proof: 'active' },
  revocation_endpoint: { status: 200, proof: undefined }
} as const satisfies Record<string, {
  /** The status that openid-client expects of a success. */
  status: number
  /** The member that only a success has. */
  proof: string | undefined
}>

type EndpointName = keyof typeof ENDPOINTS

/**
 * The member of a token response that has the ID token. openid-client does not know it, and so makes no check of the
 * ID token of its own: `verifyIdToken` makes every check, and knows what is merely unusual.
 */
export const ID_TOKEN = 'oidc:id_token'

const TOKEN_MEMBERS = ['access_token', 'token_type', 'expires_in', 'refresh_token', 'scope']
const DEVICE_MEMBERS = [
  'device_code', 'user_code', 'verification_uri', 'verification_uri_complete', 'expires_in', 'interval'
]

const check: Check = checkWith('FST_OIDC_PROVIDER_RESPONSE')

/**
 * A fetch function that makes the responses of these endpoints usual, for openid-client: it takes only what the
 * specifications describe, and many providers answer a little differently.
 */
export function readResponses (metadata: ProviderMetadata, transport: Fetch): Fetch {
  const names = Object.keys(ENDPOINTS) as EndpointName[]
  // Where the metadata names one URL for several, the first counts: without the tokens, nothing works.
  const byUrl = new Map(names.reverse().flatMap((name) => {
    const endpoint = metadata[name]
    return typeof endpoint === 'string' ? [[new URL(endpoint).href, name] as const] : []
  }))
  return async (url, init) => {
    const response = await transport(url, init)
    const name = byUrl.get(url)
    return name === undefined ? response : await readResponse(name, response)
  }
}

async function readResponse (name: EndpointName, response: Response): Promise<Response> {
  const body = await readJson(response)
  const error = errorOf(name, response, body)
  if (error !== undefined) return error
  if (response.status >= 300) return await readFailure(response, body)
  if (name === 'token_endpoint') {
    check(isRecord(body), `${describeResponse(response)}, not JSON`)
    return jsonInsteadOf(response, readTokens(body))
  }
  return name === 'device_authorization_endpoint' && isRecord(body)
    ? jsonInsteadOf(response, pick(body, DEVICE_MEMBERS))
    : await withStatus(response, ENDPOINTS[name].status)
}

/**
 * The error response of OAuth (RFC 6749, section 5.2) that a body is: with any status of an error, with or without a
 * challenge, or with the status of a success. openid-client does not read a body beside a challenge.
 */
function errorOf (name: EndpointName, response: Response, body: unknown): Response | undefined {
  const { status } = response
  if (!isRecord(body) || typeof body['error'] !== 'string' || body['error'] === '') return undefined
  const { proof } = ENDPOINTS[name]
  const isSuccess = status < 300 && proof !== undefined && body[proof] != null
  if (isSuccess) return undefined
  return jsonInsteadOf(response, pick(body, ['error', 'error_description']), Math.max(status, 400))
}

/**
 * An error without a code of OAuth. The page of a firewall is not the word of the provider; beside a 401 with a
 * challenge, it is the text of that. A 401, or a 403 without a text, is about the client: some servers say no more.
 */
async function readFailure (response: Response, body: unknown): Promise<Response> {
  const { status, headers } = response
  if (status === 401 && headers.has('www-authenticate')) return response
  if (await isPage(response)) {
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', {
      detail: `${describeResponse(response)}: a page, perhaps of a firewall or a proxy`
    })
  }
  const isAboutClient = status === 401 || (status === 403 && (isRecord(body) || await isEmpty(response)))
  if (!isAboutClient) return response
  return jsonInsteadOf(response, { error: 'invalid_client' }, status, ', without an error code')
}

async function isEmpty (response: Response): Promise<boolean> {
  return (await response.text()).trim() === ''
}

function readTokens (body: Body): Body {
  const members = pick(body, TOKEN_MEMBERS)
  check('token_type' in members, 'the token response has no token_type (RFC 6749, section 5.1)')
  const { scope } = members
  return {
    ...members,
    ...(isTexts(scope) && { scope: scope.join(' ') }),
    [ID_TOKEN]: body['id_token'] ?? undefined
  }
}

/** The members with these names. One that is `null` counts as absent. */
function pick (body: Body, names: string[]): Body {
  return Object.fromEntries(names.filter((name) => body[name] != null).map((name) => [name, body[name]]))
}

function isTexts (value: unknown): value is string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'string')
}

async function withStatus (response: Response, status: number): Promise<Response> {
  return response.status === status
    ? response
    : insteadOf(response, new Response(await response.text(), { status, headers: response.headers }))
}
