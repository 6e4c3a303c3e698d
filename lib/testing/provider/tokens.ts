import { createHash } from 'node:crypto'
import { now, random, words } from './context.ts'
import { compact, currentKey, foreignKey, hmacWith, publicJwk, signatureWith } from './keys.ts'
import type { AccessToken, Context, Grant } from './context.ts'
import type { Fault } from './fault.ts'
import type { KeyAlg, SigningKey } from './keys.ts'
import type {
  Alg, Claims, LogoutTokenOptions, Overrides, ProviderClient, ProviderUser, SignWith, TokenOptions
} from './types.ts'

const scopeClaims: Record<string, string[]> = {
  profile: [
    'name', 'family_name', 'given_name', 'middle_name', 'nickname', 'preferred_username', 'profile', 'picture',
    'website', 'gender', 'birthdate', 'zoneinfo', 'locale', 'updated_at'
  ],
  email: ['email', 'email_verified'],
  address: ['address'],
  phone: ['phone_number', 'phone_number_verified']
}
const standardClaims = new Set(Object.values(scopeClaims).flat())

/** The claims a scope gives access to (Core 5.4), and every claim that belongs to no standard scope. */
export const userClaims = (user: ProviderUser, scope: string): Claims => {
  const granted = new Set(words(scope).flatMap((name) => scopeClaims[name] ?? []))
  return Object.fromEntries(Object.entries(user).filter(([name]) => granted.has(name) || !standardClaims.has(name)))
}

interface Signer {
  header: Claims
  sign: (data: Buffer) => Buffer
}

const keySigner = (key: SigningKey): Signer =>
  ({ header: { alg: key.alg, kid: key.kid }, sign: signatureWith(key) })

const secretSigner = (client: ProviderClient): Signer =>
  ({ header: { alg: 'HS256' }, sign: hmacWith(client.client_secret ?? '') })

const regularSigner = (context: Context, alg: Alg, client: ProviderClient): Signer =>
  alg === 'HS256' ? secretSigner(client) : keySigner(currentKey(context.keys, alg))

interface TrickParts {
  key: SigningKey
  /** A key that is in no key set. */
  attackerKey: () => SigningKey
  context: Context
  client: ProviderClient
}

const attackerSigner = ({ attackerKey }: TrickParts, header: (key: SigningKey) => Claims): Signer => {
  const key = attackerKey()
  return { header: { alg: key.alg, ...header(key) }, sign: signatureWith(key) }
}

const breakSignature = (signature: Buffer): Buffer => Buffer.from(signature.map((byte, i) => i === 9 ? byte ^ 1 : byte))

const tricks: Record<Exclude<SignWith, Alg>, (parts: TrickParts) => Signer> = {
  none: () => ({ header: { alg: 'none' }, sign: () => Buffer.alloc(0) }),
  'alternate-alg': ({ key, context }) => keySigner(currentKey(context.keys, key.alg === 'PS256' ? 'RS256' : 'PS256')),
  'other-key': (parts) => attackerSigner(parts, () => ({ kid: parts.key.kid })),
  'broken-signature': ({ key }) => ({ ...keySigner(key), sign: (data) => breakSignature(signatureWith(key)(data)) }),
  'public-pem': ({ key }) => ({
    header: { alg: 'HS256', kid: key.kid },
    sign: hmacWith(key.publicKey.export({ type: 'spki', format: 'pem' }) as string)
  }),
  'public-jwk': ({ key }) => ({
    header: { alg: 'HS256', kid: key.kid },
    sign: hmacWith(JSON.stringify(publicJwk(key)))
  }),
  'client-secret': ({ client }) => secretSigner(client),
  'no-kid': ({ key }) => ({ ...keySigner(key), header: { alg: key.alg } }),
  'unknown-kid': ({ key }) => ({ ...keySigner(key), header: { alg: key.alg, kid: `unknown-${random()}` } }),
  'embedded-jwk': (parts) => attackerSigner(parts, (key) => ({ jwk: publicJwk(key) })),
  jku: (parts) => attackerSigner(parts, ({ kid }) => ({ kid, jku: `${parts.context.issuer}/attacker` })),
  x5u: (parts) => attackerSigner(parts, ({ kid }) => ({ kid, x5u: `${parts.context.issuer}/attacker` })),
  crit: ({ key }) => {
    const { header, sign } = keySigner(key)
    return { header: { ...header, crit: ['urn:unknown'], 'urn:unknown': true }, sign }
  }
}

const isTrick = (signWith: SignWith): signWith is Exclude<SignWith, Alg> => signWith in tricks

/** The signature for a client's tokens: the registered algorithm, or what a fault asks for. */
const signerFor = (context: Context, { client, signWith, alg = 'RS256' }: Draft): Signer => {
  if (!signWith || !isTrick(signWith)) return regularSigner(context, signWith ?? alg, client)
  const keyAlg: KeyAlg = alg === 'HS256' ? 'RS256' : alg
  const key = currentKey(context.keys, keyAlg)
  return tricks[signWith]({ key, attackerKey: () => foreignKey(context.keys, keyAlg), context, client })
}

const clean = (claims: Claims): Claims => JSON.parse(JSON.stringify(claims)) as Claims

interface Draft {
  client: ProviderClient
  claims: Claims
  overrides?: Overrides | undefined
  header?: Claims | undefined
  signWith?: SignWith | undefined
  alg?: Alg | undefined
  changes?: Overrides[]
}

const override = (claims: Claims, header: Claims, overrides: Overrides): Claims =>
  typeof overrides === 'function' ? overrides(claims, header) ?? claims : { ...claims, ...overrides }

/** Signs a token, after whatever overrides and faults do to its claims and header. */
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

/** The ID token of a grant (Core 2). */
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

/** The JWT access token of a grant (RFC 9068 section 2.2). */
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

const logoutEvent = 'http://schemas.openid.net/event/backchannel-logout'

/** A logout token (Back-Channel Logout 2.4). */
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
