import { createHash, randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import oidc from '../../index.ts'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { JWK, JWTPayload } from 'jose'
import type { LoginOptions, OidcOptions, OidcSession, Store } from '../../index.ts'
import type { Teardown } from './app.ts'

/**
 * What the fixtures of persisted values and their test have in common: a provider that is a function, and an
 * application that is made from options in JSON. It uses the public API only, so that it does not depend on the names
 * of internal files.
 */

export const ISSUER = 'https://id.example.com'
export const PEER = 'https://peer.example.com'
export const API = 'https://api.example.com'
export const NATIVE = 'http://127.0.0.1:53100/callback'

export const METADATA = {
  issuer: ISSUER,
  authorization_endpoint: `${ISSUER}/authorize`,
  token_endpoint: `${ISSUER}/token`,
  jwks_uri: `${ISSUER}/jwks`,
  end_session_endpoint: `${ISSUER}/end-session`,
  revocation_endpoint: `${ISSUER}/revoke`,
  device_authorization_endpoint: `${ISSUER}/device`,
  authorization_response_iss_parameter_supported: true
}

/** Options that are JSON: what is added by `build` is the same for each. */
export type JsonOptions = Omit<OidcOptions, 'store' | 'fetch' | 'onClaims' | 'onLogout'>

export interface StoredEntry {
  key: string
  value: string
  expiresAt: number
  tags: readonly string[]
}

/** A session, as its browser has it. */
export interface StoredSession {
  cookies: string[]
  sub: string
  /** As `app.oidc.accessToken` gave it. */
  accessToken: string
  session: OidcSession
}

/** A login that has begun. */
export interface StoredLogin {
  cookies: string[]
  state: string
  /** The authorization request. */
  location: string
}

/** A used login, with the cookie that it left, and the one from before. */
export interface UsedLogin extends StoredLogin {
  before: string[]
}

export interface StoredGrant {
  accessToken: string
  refreshToken: string
}

/** What one registration of the plugin left behind. */
export interface Persisted {
  options: JsonOptions
  /** The prefix of the scope that registers the plugin. */
  scope?: string
  store?: StoredEntry[]
  sessions: Record<string, StoredSession>
  logins: Record<string, StoredLogin>
  used: Record<string, UsedLogin>
  grants: Record<string, StoredGrant>
  /** Anything else, by name. */
  values: Record<string, string>
}

export interface Fixtures {
  /** In milliseconds since the epoch. */
  madeAt: number
  /** The public keys of the provider that signed the tokens here. */
  jwks: { keys: JWK[] }
  registrations: Record<string, Persisted>
}

interface Grant {
  sub: string
  scope: string
  claims: JWTPayload
  expiresIn: number
  id: string
}

interface Code extends Grant {
  nonce: string | null
  challenge: string | null
  redirectUri: string | null
  resource: string[]
}

export interface Approval {
  sub?: string
  claims?: JWTPayload
  /** Of the access token, in seconds. */
  expiresIn?: number
  /** Of the access token, in characters. */
  length?: number
}

export interface FixedProvider {
  fetch: NonNullable<OidcOptions['fetch']>
  jwks: { keys: JWK[] }
  /** Every request at the token endpoint. */
  tokenRequests: URLSearchParams[]
  /** The query of the callback when a user approves an authorization request. */
  approve: (location: string, approval?: Approval) => string
  /** A token of that type, as the provider signs it. */
  sign: (typ: string, claims: JWTPayload) => Promise<string>
}

const seconds = (): number => Math.floor(Date.now() / 1000)
const token = (bytes = 16): string => randomBytes(bytes).toString('base64url')
const pack = (content: unknown): string => Buffer.from(JSON.stringify(content)).toString('base64url')
const unpack = <T>(value: string | null): T => JSON.parse(Buffer.from(String(value), 'base64url').toString()) as T
export const challengeOf = (verifier: string): string => createHash('sha256').update(verifier).digest('base64url')

/**
 * A provider at a fixed issuer, without a server and without state. A code or a refresh token contains what it stands
 * for, so a code from an earlier process works in this one. The provider publishes `keys` beside its own key.
 * `peerKeys` are the keys of another issuer; without them, that issuer does not answer.
 */
export async function fixedProvider (keys: JWK[] = [], peerKeys?: JWK[]): Promise<FixedProvider> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const own = { ...await exportJWK(publicKey), kid: token(), alg: 'ES256', use: 'sig' }
  const jwks = { keys: [own, ...keys] }
  const tokenRequests: URLSearchParams[] = []

  async function sign (typ: string, claims: JWTPayload): Promise<string> {
    const jwt = new SignJWT({ iss: ISSUER, iat: seconds(), ...claims })
    return await jwt.setProtectedHeader({ alg: 'ES256', kid: own.kid, typ }).sign(privateKey)
  }

  async function answer (grant: Grant, length: number, nonce?: string | null): Promise<Response> {
    const { expiresIn, scope, claims, sub } = grant
    const accessToken = `access-${token(length)}`
    // A refreshed ID token has the auth_time of the login (OpenID Connect Core 1.0, section 12.2).
    const { auth_time: authTime = seconds() } = claims
    const refreshed: Grant = { sub, scope, claims: { ...claims, auth_time: authTime }, expiresIn: 3600, id: token() }
    const refreshToken = pack(refreshed)
    const idToken = await sign('JWT', {
      aud: 'web',
      sub,
      exp: seconds() + 3600,
      auth_time: authTime,
      sid: `sid-${sub}`,
      email: `${sub}@example.com`,
      roles: ['admin'],
      ...claims,
      ...(nonce != null && { nonce })
    })
    return Response.json({
      access_token: accessToken,
      token_type: 'Bearer',
      expires_in: expiresIn,
      scope,
      id_token: idToken,
      ...(scope.includes('offline_access') && { refresh_token: refreshToken })
    })
  }

  async function redeem (body: URLSearchParams): Promise<Response> {
    tokenRequests.push(body)
    if (body.get('grant_type') === 'refresh_token') return await answer(unpack<Grant>(body.get('refresh_token')), 16)
    if (body.has('device_code')) return await answer(unpack<Grant>(body.get('device_code')), 16)
    const { length = 16, ...code } = unpack<Code & { length?: number }>(body.get('code'))
    const isGood = code.challenge === challengeOf(body.get('code_verifier') as string) &&
      code.redirectUri === body.get('redirect_uri') &&
      JSON.stringify(code.resource) === JSON.stringify(body.getAll('resource'))
    return isGood ? await answer(code, length, code.nonce) : Response.json({ error: 'invalid_grant' }, { status: 400 })
  }

  async function respond (url: string, body: URLSearchParams): Promise<Response> {
    if (url === METADATA.jwks_uri) return Response.json(jwks)
    if (url === METADATA.token_endpoint) return await redeem(body)
    if (url === METADATA.revocation_endpoint) return new Response()
    if (url === METADATA.device_authorization_endpoint) {
      const scope = body.get('scope') as string
      const device: Grant = { sub: 'erin', scope, claims: {}, expiresIn: 3600, id: token() }
      const verificationUri = `${ISSUER}/verify`
      return Response.json({
        device_code: pack(device), user_code: 'ABCD', verification_uri: verificationUri, expires_in: 600
      })
    }
    if (url === `${PEER}/jwks` && peerKeys !== undefined) return Response.json({ keys: peerKeys })
    throw new Error(`nothing answers at ${url}`)
  }

  return {
    fetch: async (url, init) => await respond(url, new URLSearchParams(String(init?.body ?? ''))),
    jwks,
    tokenRequests,
    sign,
    approve (location, { sub = 'alice', claims = {}, expiresIn = 3600, length = 16 } = {}) {
      const { searchParams } = new URL(location)
      const code: Code & { length: number } = {
        sub,
        claims,
        expiresIn,
        length,
        id: token(),
        scope: searchParams.get('scope') as string,
        nonce: searchParams.get('nonce'),
        challenge: searchParams.get('code_challenge'),
        redirectUri: searchParams.get('redirect_uri'),
        resource: searchParams.getAll('resource')
      }
      const state = searchParams.get('state') as string
      return new URLSearchParams({ code: pack(code), state, iss: ISSUER }).toString()
    }
  }
}

export interface Built {
  app: FastifyInstance
  oidc: FastifyInstance['oidc']
  get: (url: string, cookies?: readonly string[], headers?: Record<string, string>) => Promise<LightMyRequestResponse>
  post: (url: string, form: Record<string, string>, headers?: Record<string, string>) => Promise<LightMyRequestResponse>
  /** Begins a login. */
  begin: (login: LoginOptions, cookies?: readonly string[]) => Promise<LightMyRequestResponse>
  /** The path that the browser comes back to, below the scope. */
  callbackOf: (location: string) => string
  /** The sessions whose end the application was told of, with the reason. */
  ended: string[]
}

/** An application as the options say, with the routes that the tests ask. */
export async function build (
  t: Teardown, { options, scope = '' }: Pick<Persisted, 'options' | 'scope'>, provider: FixedProvider, store?: Store
): Promise<Built> {
  const app: FastifyInstance = Fastify()
  t.teardown(async () => await app.close())
  const ended: string[] = []
  let tools: FastifyInstance['oidc'] | undefined
  await app.register(async (instance) => {
    await instance.register(oidc, {
      ...options,
      fetch: provider.fetch,
      onClaims: async ({ sub }) => ({ id: 7, of: sub }),
      onLogout: async ({ id }, { reason }) => { ended.push(`${reason} ${id}`) },
      ...(store !== undefined && { store })
    } as OidcOptions)
    tools = instance.oidc
    const page = { preHandler: instance.oidc.required() }
    instance.get('/me', page, async ({ oidcClaims, oidcUser, oidcSession, oidcToken }) => {
      return { claims: oidcClaims, user: oidcUser, session: oidcSession, token: oidcToken }
    })
    instance.get('/token', page, async (request) => ({ token: await instance.oidc.accessToken(request) }))
    const silent = { preHandler: instance.oidc.optional({ silent: true }) }
    instance.get('/maybe', silent, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub ?? null }))
    instance.get<{ Querystring: { options: string } }>('/begin', async (request, reply) => {
      return await instance.oidc.login(request, reply, JSON.parse(request.query.options) as LoginOptions)
    })
  }, { prefix: scope })
  await app.ready()
  const get: Built['get'] = async (url, cookies = [], headers = {}) => await app.inject({
    url: scope + url, headers: { ...headers, ...(cookies.length > 0 && { cookie: cookies.join('; ') }) }
  })
  return {
    app,
    oidc: tools as unknown as FastifyInstance['oidc'],
    ended,
    get,
    async begin (login, cookies) {
      return await get(`/begin?${new URLSearchParams({ options: JSON.stringify(login) }).toString()}`, cookies)
    },
    callbackOf (location) {
      const uri = new URL(location).searchParams.get('redirect_uri') as string
      return uri.slice((options.baseUrl + scope).length)
    },
    post: async (url, form, headers = {}) => await app.inject({
      method: 'POST',
      url: scope + url,
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      payload: new URLSearchParams(form).toString()
    })
  }
}

/** The cookies that a response sets, without those that it removes. */
export function cookiesOf ({ headers }: LightMyRequestResponse): string[] {
  const lines = [headers['set-cookie'] ?? []].flat()
  return lines.filter((line) => !/; Max-Age=0;/i.test(line)).map((line) => line.split(';', 1)[0] as string)
}
