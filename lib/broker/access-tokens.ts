import { randomBytes } from 'node:crypto'
import { jwtVerify, SignJWT } from 'jose'
import { asOidcError } from '../errors.ts'
import { callHook } from '../http/run-hook.ts'
import { BROKER_SIGNING_ALGS } from '../options/broker.ts'
import { rolesOf } from '../provider/claims.ts'
import { now } from '../util/time.ts'
import { splitWords } from '../util/words.ts'
import type { FastifyRequest } from 'fastify'
import type { JWTPayload } from 'jose'
import type { BrokerSettings } from '../options/broker.ts'
import type { GrantRecord } from './grant-records.ts'
import type { SigningKeys } from './signing-keys.ts'
import type { TokenResponse } from './token-response.ts'
import type { IssueContext } from '../../types/options.ts'

/** The request for an access token. */
export interface IssueRequest {
  grantType: string
  request: FastifyRequest
}

/** The JWT access tokens of this application (RFC 9068). */
export interface AccessTokens {
  /** Throws FST_OIDC_CLAIMS when a hook refuses, FST_OIDC_UNEXPECTED when it fails, and FST_OIDC_STORE_UNAVAILABLE. */
  issue: (record: GrantRecord, context: IssueRequest) => Promise<TokenResponse>
  /** The claims of a token. Throws FST_OIDC_TOKEN. */
  verify: (token: string) => Promise<JWTPayload>
}

export interface AccessTokensParts {
  settings: BrokerSettings
  /** The paths of the claims that hold roles. */
  roleClaims: readonly string[]
  keys: SigningKeys
}

const REQUIRED_CLAIMS = ['sub', 'client_id', 'iat', 'jti', 'exp', 'sid']

export function createAccessTokens ({ settings, roleClaims, keys }: AccessTokensParts): AccessTokens {
  const { issuer, audience, accessTokenTtl } = settings

  /** The claims of a token (RFC 9068, section 2.2). */
  async function claimsOf (record: GrantRecord, { grantType, request }: IssueRequest): Promise<JWTPayload> {
    const context: IssueContext = { grantType, clientId: record.clientId, provider: record.provider, request }
    const own = await callHook('broker.claims', async () => await settings.claims?.(record.claims, context))
    const reserved = reservedClaims(record)
    const payload = {
      ...standardClaims(record),
      roles: rolesOf(record.claims, roleClaims, record.providerClientId),
      ...own,
      scope: record.scope,
      ...reserved
    }
    const added = await callHook('broker.onIssue', async () => await settings.onIssue?.(payload, context))
    return JSON.parse(JSON.stringify({ ...payload, ...added, ...reserved })) as JWTPayload
  }

  // No hook of the application can change these claims.
  function reservedClaims ({ id, subject, clientId, provider, expiresAt }: GrantRecord): Record<string, unknown> {
    return {
      iss: issuer,
      aud: audience,
      sub: subject,
      client_id: clientId,
      sid: id,
      jti: `${id}.${randomBytes(9).toString('base64url')}`,
      idp: provider,
      iat: now(),
      exp: Math.min(now() + accessTokenTtl, expiresAt),
      nbf: undefined,
      cnf: undefined
    }
  }

  async function sign (payload: JWTPayload): Promise<string> {
    const { alg, kid, key } = await keys.current()
    return await new SignJWT(payload).setProtectedHeader({ alg, kid, typ: 'at+jwt' }).sign(key)
  }

  return {
    async issue (record, context) {
      const payload = await claimsOf(record, context)
      const { exp, scope } = payload as JWTPayload & { exp: number, scope: string }
      return { access_token: await sign(payload), token_type: 'Bearer', expires_in: exp - now(), expires: exp, scope }
    },

    async verify (token) {
      const known = { issuer, audience, typ: 'at+jwt' }
      const rules = { ...known, algorithms: BROKER_SIGNING_ALGS, requiredClaims: REQUIRED_CLAIMS }
      const { payload } = await jwtVerify(token, await keys.verifier(), rules).catch(asOidcError('FST_OIDC_TOKEN'))
      return payload
    }
  }
}

/** The user's claims that the scope allows (OpenID Connect Core 1.0, section 5.4). */
function standardClaims ({ claims, scope, authTime, acr }: GrantRecord): JWTPayload {
  const { preferred_username: username, email } = claims as { preferred_username?: unknown, email?: unknown }
  const has = (name: string): boolean => splitWords(scope).includes(name)
  return {
    ...(typeof username === 'string' && has('profile') && { preferred_username: username }),
    ...(typeof email === 'string' && has('email') && { email }),
    ...(authTime !== undefined && { auth_time: authTime }),
    ...(acr !== undefined && { acr })
  }
}
