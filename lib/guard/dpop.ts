import { hash } from 'node:crypto'
import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from 'jose'
import { createBoundedMap } from '../util/bounded-map.ts'
import { headerValues } from '../http/headers.ts'
import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import type { FastifyRequest } from 'fastify'
import type { JWTHeaderParameters, JWTPayload } from 'jose'
import type { BearerSettings } from '../options/bearer.ts'
import type { Sealer } from '../sealer.ts'
import type { SealedStore } from '../store/sealed-store.ts'

/** DPoP at the resource (RFC 9449, sections 4.3 and 7). */
export interface DpopProofs {
  /**
   * The thumbprint of the key that a request proves to have, for this token. Throws FST_OIDC_DPOP,
   * FST_OIDC_DPOP_NONCE.
   */
  verify: (request: FastifyRequest, token: string) => Promise<string>
  /** A nonce that proofs are accepted with for a while. */
  nonce: () => string
}

/** How old a proof may be, and how far a clock may be ahead, in seconds. */
const MAX_AGE = 60
const AHEAD = 10
/** How long a nonce is accepted, in seconds. */
const NONCE_LIFETIME = 300
/** Past this number the oldest proofs of one process are forgotten. */
const MAX_PROOFS = 100_000
const MAX_JTI = 200 // characters, because it is remembered
const MAX_PROOF = 8192 // characters
const ALGORITHMS = ['ES256', 'ES384', 'ES512', 'PS256', 'RS256', 'EdDSA', 'Ed25519']

export const DPOP_ALGORITHMS = ALGORITHMS.join(' ')

interface Parts {
  baseUrl: string
  sealer: Sealer
  vault: SealedStore | undefined
  /** How many proofs one process remembers. */
  limit?: number
}

export function createDpopProofs (
  { dpopNonce }: Pick<BearerSettings, 'dpopNonce'>,
  { baseUrl, sealer, vault, limit = MAX_PROOFS }: Parts
): DpopProofs {
  const used = createBoundedMap<true>(limit)

  /** Whether nobody has shown this proof before, to this process or another. */
  async function isNew (jkt: string, jti: string): Promise<boolean> {
    const key = JSON.stringify([jkt, jti])
    if (used.get(key) !== undefined) return false
    const expiresAt = now() + MAX_AGE + AHEAD + 1
    used.set(key, true, expiresAt)
    return vault === undefined || await vault.create(['proof', jkt, jti], true, expiresAt) !== null
  }

  function isCurrent (nonce: unknown): boolean {
    const opened =
      typeof nonce === 'string' ? (sealer.open('nonce', nonce)?.content as { at: number } | undefined) : undefined
    return opened !== undefined && opened.at + NONCE_LIFETIME > now()
  }

  return {
    nonce: () => sealer.seal('nonce', { at: now() }),

    async verify (request, token) {
      const { payload, jkt } = await open(proofOf(request))
      checkTarget(payload, request, baseUrl)
      const { iat, jti, ath, nonce } = payload as JWTPayload & { iat: number }
      check(iat > now() - MAX_AGE && iat <= now() + AHEAD, 'iat is too long ago, or in the future')
      check(ath === hash('sha256', token, 'base64url'), 'ath is not the hash of the access token')
      check(typeof jti === 'string' && jti !== '' && jti.length <= MAX_JTI, 'jti must be a string')
      if (dpopNonce && !isCurrent(nonce)) throw new OidcError('FST_OIDC_DPOP_NONCE')
      check(await isNew(jkt, jti), 'it was used before')
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

async function open (proof: string): Promise<{ payload: JWTPayload, jkt: string }> {
  try {
    const { payload, protectedHeader } = await jwtVerify(proof, EmbeddedJWK, {
      algorithms: ALGORITHMS,
      typ: 'dpop+jwt',
      requiredClaims: ['iat', 'jti', 'htm', 'htu', 'ath']
    })
    const { jwk } = protectedHeader as JWTHeaderParameters & { jwk: NonNullable<JWTHeaderParameters['jwk']> }
    return { payload, jkt: await calculateJwkThumbprint(jwk) }
  } catch (cause) {
    throw new OidcError('FST_OIDC_DPOP', { cause, detail: String((cause as Error).message) })
  }
}

// The address as the caller knows it comes from the options, never from the request's own headers (section
// 4.3, item 9).
function checkTarget ({ htm, htu }: JWTPayload, { method, originalUrl }: FastifyRequest, baseUrl: string): void {
  check(htm === method, 'htm is another method')
  // HTTP/2 has paths that would become another host.
  check(originalUrl.startsWith('/'), 'the request has no path')
  check(
    typeof htu === 'string' && normalise(htu) !== null && normalise(htu) === normalise(baseUrl + originalUrl),
    'htu is another address'
  )
}

function normalise (url: string): string | null {
  if (!URL.canParse(url)) return null
  const { origin, pathname } = new URL(url)
  return origin + pathname
}

function check (condition: boolean, detail: string): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_DPOP', { detail })
}
