import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from 'jose'
import { OidcError, asOidcError, checkWith } from '../errors.ts'
import { headerValues } from '../http/headers.ts'
import { DPOP_ALGORITHMS } from '../options/bearer.ts'
import { sha256 } from '../util/crypto.ts'
import { hasBegun, now } from '../util/time.ts'
import type { FastifyRequest } from 'fastify'
import type { JWTHeaderParameters, JWTPayload } from 'jose'
import type { Check } from '../errors.ts'
import type { Urls } from '../http/urls.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { Sealer } from '../sealer.ts'
import type { Seen } from '../store/seen.ts'

/** DPoP proofs of requests (RFC 9449, sections 4.3 and 7). */
export interface DpopProofs {
  /**
   * The thumbprint of the key that the request proves to have, for this token.
   * Throws FST_OIDC_DPOP, FST_OIDC_DPOP_NONCE.
   */
  verify: (request: FastifyRequest, token: string) => Promise<string>
  /** A nonce for the next proofs. It is accepted for a while. */
  nonce: () => string
}

export interface DpopParts {
  urls: Pick<Urls, 'publicUrl'>
  sealer: Sealer
  /** Which proofs were used, in this process or another. */
  used: Seen
}

/** The greatest age of a proof, and how far the clock of the client may be ahead, in seconds. */
const MAX_AGE = 60
const AHEAD = 10
/** How long a nonce is accepted, in seconds. */
const NONCE_LIFETIME = 300
/** The `jti` is kept; in characters. */
const MAX_JTI = 200
/** In characters. */
const MAX_PROOF = 8192
const REQUIRED_CLAIMS = ['iat', 'jti', 'htm', 'htu', 'ath']

const check: Check = checkWith('FST_OIDC_DPOP')

export function createDpopProofs (
  { dpopNonce }: Pick<BearerSettings, 'dpopNonce'>,
  { urls, sealer, used }: DpopParts
): DpopProofs {
  function isNonceValid (nonce: unknown): boolean {
    const opened = typeof nonce === 'string' ? sealer.open('nonce', nonce) : null
    const content = opened?.content as { at: number } | undefined
    return content !== undefined && hasBegun(content.at) && content.at + NONCE_LIFETIME > now()
  }

  return {
    nonce: () => sealer.seal('nonce', { at: now() }),

    async verify (request, token) {
      const { payload, jkt } = await verifySignature(proofOf(request))
      checkTarget(payload, request, urls)
      const { iat, jti, ath, nonce } = payload as JWTPayload & { iat: number }
      check(iat > now() - MAX_AGE && iat <= now() + AHEAD, 'iat is too long ago, or in the future')
      check(ath === sha256(token), 'ath is not the hash of the access token')
      check(typeof jti === 'string' && jti !== '' && jti.length <= MAX_JTI, 'jti must be a string')
      if (dpopNonce && !isNonceValid(nonce)) throw new OidcError('FST_OIDC_DPOP_NONCE')
      check(await used.claim(['proof', jkt, jti], now() + MAX_AGE + AHEAD + 1), 'it was used before')
      return jkt
    }
  }
}

function proofOf (request: FastifyRequest): string {
  const proofs = headerValues(request, 'dpop')
  check(proofs.length === 1, `there are ${proofs.length} proofs`)
  const [proof] = proofs as [string]
  check(proof.length <= MAX_PROOF, 'it is too long')
  return proof
}

async function verifySignature (proof: string): Promise<{ payload: JWTPayload, jkt: string }> {
  const rules = { algorithms: DPOP_ALGORITHMS, typ: 'dpop+jwt', requiredClaims: REQUIRED_CLAIMS }
  const verify = async () => {
    const { payload, protectedHeader } = await jwtVerify(proof, EmbeddedJWK, rules)
    const { jwk } = protectedHeader as JWTHeaderParameters & { jwk: NonNullable<JWTHeaderParameters['jwk']> }
    return { payload, jkt: await calculateJwkThumbprint(jwk) }
  }
  return await verify().catch(asOidcError('FST_OIDC_DPOP'))
}

// The public address comes from the options, never from the headers of the request (section 4.3, item 9).
function checkTarget (
  { htm, htu }: JWTPayload,
  { method, originalUrl }: FastifyRequest,
  { publicUrl }: DpopParts['urls']
): void {
  check(htm === method, 'htm is another method')
  // In HTTP/2, a path need not begin with a slash. Then it could change the host of the address.
  check(originalUrl.startsWith('/'), 'the request has no path')
  const target = typeof htu === 'string' ? normalise(htu) : null
  check(target !== null && target === normalise(publicUrl(originalUrl)), 'htu is another address')
}

function normalise (url: string): string | null {
  if (!URL.canParse(url)) return null
  const { origin, pathname } = new URL(url)
  return origin + pathname
}
