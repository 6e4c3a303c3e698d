import { createLocalJWKSet, errors, jwtVerify } from 'jose'
import { createCached } from './cached.ts'
import { OidcError } from './errors.ts'
import type { JWK, JWTVerifyGetKey, JWTVerifyOptions, JWTVerifyResult } from 'jose'
import type { Fetch } from '../types/options.ts'

export interface KeySet {
  /** Verifies a token with the provider's keys; throws an error of jose, or an OidcError when there are no keys. */
  verify: (token: string, options: JWTVerifyOptions) => Promise<JWTVerifyResult>
}

const MINUTE = 60_000
const TIMES = { maxAge: 10 * MINUTE, maxStale: 24 * 60 * MINUTE, retryAfter: 1000 }

/**
 * The keys of one provider. A token of an unknown key, or one whose signature does not fit, makes it ask for the keys
 * once more, so that a rotation is followed at once. That is safe for tokens which came straight from the token
 * endpoint: each of them has cost the provider a request already.
 */
export function createKeySet (jwksUri: string, transport: Fetch): KeySet {
  const keys = createCached(() => fetchKeys(jwksUri, transport), TIMES)
  return {
    async verify (token, options) {
      try {
        return await jwtVerify(token, await keys.get(), options)
      } catch (error) {
        if (!mayBeRotated(error)) throw error
        return await jwtVerify(token, await keys.reload(), options)
      }
    }
  }
}

async function fetchKeys (jwksUri: string, transport: Fetch): Promise<JWTVerifyGetKey> {
  const response = await transport(jwksUri, { headers: { accept: 'application/json, application/jwk-set+json' } })
  const document = response.status === 200 ? await response.json().catch(() => undefined) as { keys?: unknown } | undefined : undefined
  if (!Array.isArray(document?.keys)) {
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail: 'the key set is not a JWK Set (RFC 7517, section 5)' })
  }
  return createLocalJWKSet({ keys: document.keys.filter(isPublicKey) })
}

// A key whose private part is public proves nothing.
function isPublicKey (key: unknown): key is JWK {
  return typeof key === 'object' && key !== null && 'kty' in key && key.kty !== 'oct' && !('d' in key)
}

function mayBeRotated (error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed
}
