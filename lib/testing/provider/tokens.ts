import { createHash } from 'node:crypto'
import { now, random } from './context.ts'
import { compact } from './jws.ts'
import { signerFor } from './signers.ts'
import { userClaims } from './user-claims.ts'
import type { AccessToken, Context, Grant } from './context.ts'
import type { Alg, ProviderClient, ProviderUser } from './options.ts'
import type { SignatureChoice } from './signers.ts'
import type { Claims, LogoutTokenOptions, Overrides, SignWith, TokenOptions } from './token-options.ts'
import type { Fault } from './types.ts'

interface Draft extends SignatureChoice {
  claims: Claims
  overrides?: Overrides | undefined
  header?: Claims | undefined
  changes?: Overrides[]
}

const clean = (claims: Claims): Claims => JSON.parse(JSON.stringify(claims)) as Claims

const override = (claims: Claims, header: Claims, overrides: Overrides): Claims =>
  typeof overrides === 'function' ? overrides(claims, header) ?? claims : { ...claims, ...overrides }

/** Signs a token, after overrides and faults have changed its claims and header. */
export const issue = (context: Context, draft: Draft): string => {
  const { claims, overrides = {}, header, changes = [] } = draft
  const signer = signerFor(context, draft)
  const finalHeader = clean({ ...signer.header, ...header })
  const finalClaims = [overrides, ...changes]
    .reduce<Claims>((value, change) => override(value, finalHeader, change), clean(claims))
  return compact(finalHeader, finalClaims, signer.sign)
}

const halfHash = (token: string, alg: Alg): string => {
  const hash = createHash(alg === 'EdDSA' ? 'sha512' : 'sha256').update(token).digest()
  return hash.subarray(0, hash.length / 2).toString('base64url')
}

interface IdTokenParts {
  grant: Grant & { user: ProviderUser }
  nonce?: string | undefined
  access_token?: string | undefined
  faults?: Fault[]
  overrides?: Overrides | undefined
  header?: Claims | undefined
  signWith?: SignWith | undefined
}

const idTokenClaims = ({ options, issuer }: Context, { grant, nonce, access_token }: IdTokenParts): Claims => {
  const { client, user, scope, sid, auth_time, acr } = grant
  const iat = now()
  return {
    ...(options.claimsInIdToken === false ? {} : userClaims(user, scope)),
    iss: issuer,
    sub: user.sub,
    aud: client.client_id,
    exp: iat + (options.idTokenTtl ?? 3600),
    iat,
    auth_time,
    nonce,
    acr,
    sid,
    at_hash: access_token && halfHash(access_token, client.id_token_signed_response_alg ?? 'RS256')
  }
}

const defined = <T>(value: T | undefined): value is T => value !== undefined

/** The ID token of a grant (OpenID Connect Core 1.0, section 2). */
export const issueIdToken = (context: Context, parts: IdTokenParts): string => {
  const { grant: { client }, faults = [], overrides, header } = parts
  const jwt = issue(context, {
    client,
    claims: idTokenClaims(context, parts),
    overrides,
    header,
    alg: client.id_token_signed_response_alg,
    signWith: parts.signWith ?? faults.map((fault) => fault.signWith).filter(defined).at(-1),
    changes: faults.map((fault) => fault.idToken).filter(defined)
  })
  const final = faults.reduce((token, fault) => fault.idTokenRaw?.(token) ?? token, jwt)
  context.idTokens.add(final)
  return final
}

/** The JWT access token of a grant (RFC 9068, section 2.2). */
export const issueJwtAccessToken = (
  context: Context, { grant, scope, issued, expires }: AccessToken, faults: Fault[] = [], token: TokenOptions = {}
): string => issue(context, {
  client: grant.client,
  claims: {
    iss: context.issuer,
    sub: grant.user?.sub ?? grant.client.client_id,
    aud: grant.resource ?? context.options.accessTokenAudience ?? context.issuer,
    client_id: grant.client.client_id,
    scope,
    iat: issued,
    exp: expires,
    jti: random(),
    auth_time: grant.auth_time,
    acr: grant.acr,
    roles: grant.user?.roles
  },
  overrides: token.overrides,
  header: { typ: 'at+jwt', ...token.header },
  signWith: token.signWith,
  changes: faults.map((fault) => fault.accessToken).filter(defined)
})

/** The event of every logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4). */
export const logoutEvent = 'http://schemas.openid.net/event/backchannel-logout'

/** A logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4). */
export const issueLogoutToken = (context: Context, client: ProviderClient, options: LogoutTokenOptions): string => {
  const iat = now()
  return issue(context, {
    client,
    claims: {
      iss: context.issuer,
      aud: client.client_id,
      iat,
      exp: iat + 120,
      jti: random(),
      events: { [logoutEvent]: {} },
      sub: options.sub,
      sid: options.sid
    },
    overrides: options.overrides,
    header: { typ: 'logout+jwt', ...options.header },
    alg: client.id_token_signed_response_alg,
    signWith: options.signWith
  })
}
