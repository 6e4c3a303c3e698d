import { hash } from 'node:crypto'
import { claimsOf, describeToken } from '../provider/access-token.ts'
import { createAdmission } from '../util/token-cache.ts'
import { createBoundedMap } from '../util/bounded-map.ts'
import { headerValues } from '../http/headers.ts'
import { OidcError } from '../errors.ts'
import { freeze } from '../util/freeze.ts'
import { createDpopProofs } from './dpop.ts'
import { now } from '../util/time.ts'
import type { FastifyRequest } from 'fastify'
import type { JWTPayload } from 'jose'
import type { BearerSettings } from '../options/bearer.ts'
import type { Constraints } from './constraints.ts'
import type { DpopProofs } from './dpop.ts'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { Sealer } from '../sealer.ts'
import type { SealedStore } from '../store/sealed-store.ts'
import type { OidcClaims, OidcToken } from '../../types/claims.ts'
import type { TokenIssuer } from '../provider/token-issuer.ts'

/** An access token that was verified. */
export interface VerifiedToken<V extends TokenIssuer = TokenIssuer> {
  claims: OidcClaims
  token: OidcToken
  provider: V
}

export interface Bearer {
  readonly settings: BearerSettings
  readonly proofs: DpopProofs
  /** Whether the request comes with an access token, or with something that is meant as one. */
  isPresented: (request: FastifyRequest) => boolean
  /** The token of a request, when it was verified before and nothing has changed since. */
  known: (request: FastifyRequest) => VerifiedToken | undefined
  /**
   * Throws FST_OIDC_AUTHORIZATION, FST_OIDC_TOKEN, FST_OIDC_DPOP, and an OidcError when the provider cannot
   * be asked.
   */
  verify: (request: FastifyRequest, constraints: Pick<Constraints, 'providers'>) => Promise<VerifiedToken>
  /**
   * Verifies a token of a provider that did not come as the credential of a request (RFC 8693, section 2.1).
   * Throws FST_OIDC_TOKEN.
   */
  verifySubject: (token: string, request: FastifyRequest) => Promise<VerifiedToken<Provider>>
  /** Verifies all tokens anew: somebody was logged out. */
  forget: () => void
}

interface Kept extends VerifiedToken {
  raw: string
  /** What it was verified with. */
  keys: unknown
  confirmation: Confirmation | undefined
}

/** The providers that will do, by name. */
type Names = readonly string[]

type Confirmation = Record<string, unknown>

interface Credential {
  scheme: 'bearer' | 'dpop'
  token: string
}

const MAX_KEPT = 10_000
const BEARER = 'Bearer '
const TAIL = 40 // characters at the end of a token: of its signature, and so as good as random
const MAX_TOKEN = 16_384 // characters
// Seconds that a token is good for, when it does not say so itself, and that what was verified is kept
const LASTS = 3600

export interface BearerParts {
  /** Those who vouch for tokens beside the providers: of the broker, and of its peers. */
  own: readonly TokenIssuer[]
  peers: readonly TokenIssuer[]
  baseUrl: string
  providers: Providers
  sealer: Sealer
  vault: SealedStore | undefined
}

export function createBearer (settings: BearerSettings, { providers, own, peers, ...parts }: BearerParts): Bearer {
  const proofs = createDpopProofs(settings, parts)
  const kept = createBoundedMap<Kept>(MAX_KEPT)
  const isWorthIt = createAdmission(MAX_KEPT)
  const asked = createBoundedMap<Promise<JWTPayload>>(MAX_KEPT)
  // The token whose proof a request has shown: a second guard must not take the proof for a replay.
  const proven = new WeakMap<FastifyRequest, string>()

  /**
   * The token that was verified before, when it is that very token, its keys are still those of the provider,
   * and it has not expired.
   */
  function find (raw: string, names?: Names): Kept | undefined {
    const found = kept.get(keyOf(raw, names))
    return found?.raw === raw &&
      found.keys !== undefined &&
      found.keys === found.provider.keys() &&
      isCurrent(found.provider)
      ? found
      : undefined
  }

  // A tenant may be gone, or be another one under the same name.
  function isCurrent (voucher: TokenIssuer): boolean {
    return providers.known(voucher.name) === voucher || own.includes(voucher) || peers.includes(voucher)
  }

  async function load (raw: string, request: FastifyRequest, names: Names | undefined): Promise<Kept> {
    const issuer = issuerOf(raw)
    const verified =
      issuer === undefined
        ? await introspect(raw, request, names)
        : await verifyJwt(raw, await voucherFor(request, issuer, names))
    check(names?.includes(nameOf(verified)) !== false, 'it is of another provider')
    const found = keep(raw, verified)
    // What an answer of the provider says may change before the token expires.
    if (issuer !== undefined && isWorthIt(keyOf(raw, names), kept.size)) remember(found, names)
    return found
  }

  function remember (found: Kept, names: Names | undefined): void {
    // A slice of the header would keep the whole request in memory.
    const raw = Buffer.from(found.raw, 'latin1').toString('latin1')
    kept.set(keyOf(raw, names), { ...found, raw }, Math.min(found.token.expiresAt, now() + LASTS))
  }

  /**
   * Who vouches for the tokens of an issuer, from a closed set: what a token says of its issuer is a claim
   * like any other.
   * Peers count where it does not matter which provider named the person; our own tokens tell which one did.
   */
  async function voucherFor (
    request: FastifyRequest,
    issuer: string,
    names: Names | undefined
  ): Promise<TokenIssuer | null> {
    const others = names === undefined ? [...own, ...peers] : own
    const voucher = others.find(({ settings }) => settings.issuer === issuer)
    return voucher ?? (settings.ofProviders ? await providerOf(request, issuer, names) : null)
  }

  async function providerOf (
    request: FastifyRequest,
    issuer: string,
    names: Names | undefined
  ): Promise<Provider | null> {
    if (names === undefined) return await providers.ofIssuer(request, issuer)
    const found = await Promise.all(names.map(async (name) => await providers.find(request, name)))
    return found.find((provider) => provider?.settings.issuer === issuer) ?? null
  }

  async function verifyJwt<V extends TokenIssuer> (raw: string, provider: V | null): Promise<Verified<V>> {
    check(provider !== null, 'its issuer is none of those that count here')
    // Those from before: they may be others by the time that it is verified.
    const keys = provider.keys()
    return { provider, keys, payload: await provider.verifyAccessToken(raw, settings) }
  }

  async function introspect (raw: string, request: FastifyRequest, names: Names | undefined): Promise<Verified> {
    const name = settings.introspection
    const provider = name === undefined || names?.includes(name) === false ? null : await providers.find(request, name)
    check(provider !== null, 'it is no JWT')
    const key = hash('sha256', `${provider.id} ${raw}`, 'base64')
    const payload = await (asked.get(key) ?? askOnce(key, provider, raw))
    check(typeof payload.exp !== 'number' || payload.exp > now(), 'it has expired')
    return { provider, keys: undefined, payload }
  }

  /** Whoever comes with the same token for a while gets the same answer; that there was none is not kept. */
  function askOnce (key: string, provider: Provider, raw: string): Promise<JWTPayload> {
    const running = provider.introspect(raw, settings)
    asked.set(key, running, now() + settings.introspectionMaxAge)
    running.catch((error: OidcError) => { if (error.statusCode >= 500) asked.delete(key) })
    return running
  }

  async function verify (request: FastifyRequest, constraints: Pick<Constraints, 'providers'>): Promise<VerifiedToken> {
    const { scheme, token: raw } = credentialOf(request)
    const names = constraints.providers?.(request)
    const found = find(raw, names) ?? await load(raw, request, names)
    check(await found.provider.isLive?.(found.claims) !== false, 'it was revoked')
    await confirm(found, scheme, request)
    return found
  }

  /**
   * Tokens that are bound to a key or a certificate are worth nothing without (RFC 9449, section 7.1; RFC
   * 8705, section 3).
   */
  async function confirm (
    { raw, confirmation = {} }: Kept,
    scheme: Credential['scheme'],
    request: FastifyRequest
  ): Promise<void> {
    const { jkt, 'x5t#S256': certificate, ...unknown } = confirmation
    check(Object.keys(unknown).length === 0, 'it is bound in a way that is not known here')
    check(
      (scheme === 'dpop') === (jkt !== undefined),
      scheme === 'dpop' ? 'it is not bound to a key' : 'it is bound to a key, and needs a proof'
    )
    check(jkt === undefined || settings.dpop, 'it is bound to a key, which is not taken here')
    check(!settings.dpopRequired || jkt !== undefined, 'it is not bound to a key')
    if (certificate !== undefined) {
      check(certificate === thumbprintOf(settings.clientCertificate(request)), 'it is bound to another certificate')
    }
    if (jkt === undefined || proven.get(request) === raw) return
    check(await proofs.verify(request, raw) === jkt, 'it is bound to another key')
    proven.set(request, raw)
  }

  return {
    settings,
    proofs,
    isPresented: ({ headers: { authorization } }) =>
      authorization !== undefined &&
      (authorization.startsWith(BEARER) || /^(?:bearer|dpop)(?: |$)/i.test(authorization)),

    known (request) {
      const { authorization = '' } = request.headers
      const isPlain = authorization.startsWith(BEARER) && !isRepeated(request) && !isInForm(request)
      const found = isPlain ? find(authorization.slice(BEARER.length)) : undefined
      return found?.confirmation === undefined && found?.provider.isLive === undefined && !settings.dpopRequired
        ? found
        : undefined
    },

    verify,

    async verifySubject (raw, request) {
      const issuer = issuerOf(raw)
      // A token of ours would go on for ever.
      check(issuer !== undefined && !own.some(({ settings }) => settings.issuer === issuer), 'it is not of a provider')
      check(!settings.dpopRequired, 'it cannot be bound to a key here, as it must be')
      const verified = await verifyJwt(raw, await providers.ofIssuer(request, issuer))
      const found = keep(raw, verified)
      check(found.confirmation === undefined, 'it is bound to a key, and cannot be exchanged')
      return { ...found, provider: verified.provider }
    },

    forget () {
      kept.clear()
      asked.clear()
    }
  }
}

interface Verified<V extends TokenIssuer = TokenIssuer> {
  provider: V
  keys: unknown
  payload: JWTPayload
}

// Several providers may have the same issuer: which one it is depends on which ones will do.
function keyOf (raw: string, names: Names | undefined): string {
  const tail = raw.slice(-TAIL)
  return names === undefined ? tail : tail + JSON.stringify(names)
}

function nameOf ({ provider, payload }: Pick<Verified, 'provider' | 'payload'>): string {
  return provider.providerOf?.(payload) ?? provider.name
}

function keep (raw: string, { provider, keys, payload }: Verified): Kept {
  const { cnf, sub } = payload
  check(sub === undefined || (typeof sub === 'string' && sub !== ''), 'sub is no text')
  check(cnf === undefined || (typeof cnf === 'object' && cnf !== null && !Array.isArray(cnf)), 'cnf is no object')
  const expiresAt = Math.min(payload.exp ?? Infinity, now() + LASTS)
  const token = freeze(describeToken(nameOf({ provider, payload }), payload, payload.exp ?? expiresAt))
  return {
    raw,
    keys,
    claims: freeze(claimsOf(payload, provider.settings.issuer)),
    token,
    provider,
    confirmation: cnf as Confirmation | undefined
  }
}

/** Exactly one (RFC 6750, section 2): of two it is not clear which one counts. */
function credentialOf (request: FastifyRequest): Credential {
  const [, scheme, token] = /^(bearer|dpop) ([\w.~+/-]+=*)$/i.exec(String(request.headers.authorization)) ?? []
  const isOne = scheme !== undefined && token !== undefined && !isRepeated(request) && !isInForm(request)
  if (!isOne) throw new OidcError('FST_OIDC_AUTHORIZATION')
  check(token.length <= MAX_TOKEN, 'it is too long')
  return { scheme: scheme.toLowerCase() as Credential['scheme'], token }
}

function isRepeated (request: FastifyRequest): boolean {
  return headerValues(request, 'authorization').length > 1
}

function isInForm ({ headers: { 'content-type': type }, body }: FastifyRequest): boolean {
  const isForm = type !== undefined && /^\s*application\/x-www-form-urlencoded\b/i.test(type)
  return isForm && typeof body === 'object' && body !== null && 'access_token' in body
}

/** The issuer that a JWT names, or `undefined` for a token of another kind. */
function issuerOf (token: string): string | undefined {
  const [, payload, signature, ...others] = token.split('.')
  if (payload === undefined || signature === undefined || others.length > 0) return undefined
  try {
    const { iss } = Object(JSON.parse(Buffer.from(payload, 'base64url').toString())) as { iss?: unknown }
    return typeof iss === 'string' ? iss : ''
  } catch {
    return undefined
  }
}

function thumbprintOf (certificate: Uint8Array | string | undefined): string | undefined {
  if (certificate === undefined) return undefined
  const der =
    typeof certificate === 'string'
      ? Buffer.from(certificate.replace(/-----[^-]+-----|\s/g, ''), 'base64')
      : certificate
  return hash('sha256', der, 'base64url')
}

function check (condition: boolean, detail: string): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_TOKEN', { detail })
}
