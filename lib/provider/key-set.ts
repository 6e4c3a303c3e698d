import { createLocalJWKSet, errors, jwtVerify } from 'jose'
import { OidcError } from '../errors.ts'
import { createCached } from '../util/cached.ts'
import { isRecord } from '../util/json.ts'
import { isJson } from './transport.ts'
import type { JWK, JWTVerifyGetKey, JWTVerifyOptions, JWTVerifyResult } from 'jose'
import type { Fetch } from '../../types/options.ts'

export interface KeySet {
  /** Verifies a token with the provider's keys. Throws an error of jose, or an OidcError when there are no keys. */
  verify: (token: string, options: JWTVerifyOptions) => Promise<JWTVerifyResult>
  /** Fetches the keys when they are missing or too old. Returns whether they are fresh now. Throws without keys. */
  load: () => Promise<boolean>
  /** The keys, unless they are missing or too old. The same object as long as the keys are the same. */
  known: () => unknown
}

const MINUTE = 60_000
const TIMES = { maxAge: 10 * MINUTE, maxStale: 24 * 60 * MINUTE, retryAfter: 1000 }
/** How often tokens with unknown keys may cause a fetch: this often at once, and this often per second. */
const RELOADS = { burst: 5, perSecond: 1 }
/** A fetch that began before the token was signed may lack its key. The next fetch has it. */
const ATTEMPTS = 3

/**
 * The keys of one provider. A token with an unknown key or a wrong signature causes a new fetch, so that a key rotation
 * works at once. The number of fetches is limited, so that forged tokens cannot flood the provider with requests.
 */
export function createKeySet (jwksUri: string, transport: Fetch): KeySet {
  const mayReload = createLimit(RELOADS.burst, RELOADS.perSecond)
  let last: { text: string, keys: JWTVerifyGetKey } | undefined
  const cached = createCached(load, TIMES)

  // The same keys stay the same object: caches of verified tokens compare it.
  async function load (): Promise<JWTVerifyGetKey> {
    const keys = await fetchKeys(jwksUri, transport)
    const text = JSON.stringify(keys)
    if (text !== last?.text) last = { text, keys: createLocalJWKSet({ keys }) }
    return last.keys
  }

  async function verify (
    token: string,
    options: JWTVerifyOptions,
    keys: JWTVerifyGetKey,
    attempts: number
  ): Promise<JWTVerifyResult> {
    try {
      return await jwtVerify(token, keys, options)
    } catch (error) {
      const newer = attempts > 1 && mayBeRotated(error) ? await cached.newerThan(keys, mayReload) : keys
      if (newer === keys) throw error
      return await verify(token, options, newer, attempts - 1)
    }
  }

  return {
    verify: async (token, options) => await verify(token, options, await cached.get(), ATTEMPTS),
    known: cached.fresh,
    async load () {
      await cached.get()
      return cached.fresh() !== undefined
    }
  }
}

/** A token bucket. */
function createLimit (burst: number, perSecond: number): () => boolean {
  let tokens = burst
  let filledAt = Date.now()
  return () => {
    const time = Date.now()
    tokens = Math.min(burst, tokens + Math.max(0, time - filledAt) / 1000 * perSecond)
    filledAt = time
    if (tokens < 1) return false
    tokens -= 1
    return true
  }
}

async function fetchKeys (jwksUri: string, transport: Fetch): Promise<JWK[]> {
  const response = await transport(jwksUri, { headers: { accept: 'application/json, application/jwk-set+json' } })
  const canRead = response.status === 200 && isJson(response)
  const document: unknown = canRead ? await response.json().catch(() => undefined) : undefined
  if (!isRecord(document) || !Array.isArray(document['keys'])) {
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail: 'the key set is not a JWK Set (RFC 7517, section 5)' })
  }
  return document['keys'].filter(isPublicKey)
}

// A signature proves nothing when its private key is public.
function isPublicKey (key: unknown): key is JWK {
  return isRecord(key) && 'kty' in key && key['kty'] !== 'oct' && !('d' in key)
}

function mayBeRotated (error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed
}
