import { createLocalJWKSet, errors, jwtVerify } from 'jose'
import { createCached } from '../util/cached.ts'
import { OidcError } from '../errors.ts'
import { isJson } from './transport.ts'
import type { JWK, JWTVerifyGetKey, JWTVerifyOptions, JWTVerifyResult } from 'jose'
import type { Fetch } from '../../types/options.ts'

export interface KeySet {
  /** Verifies a token with the provider's keys; throws an error of jose, or an OidcError when there are no keys. */
  verify: (token: string, options: JWTVerifyOptions) => Promise<JWTVerifyResult>
  /**
   * Fetches the keys when they are not there or too old. Says whether they are not too old now; throws when
   * there are none.
   */
  load: () => Promise<boolean>
  /** The keys, when they are there and not too old; others when they were fetched since. */
  known: () => unknown
}

const MINUTE = 60_000
const TIMES = { maxAge: 10 * MINUTE, maxStale: 24 * 60 * MINUTE, retryAfter: 1000 }
/** How often tokens of unknown keys may make it ask again: so many times at once, and so many a second. */
const RELOADS = { burst: 5, perSecond: 1 }
/** Keys that were being loaded when the token was signed may lack its key; the next ones do not. */
const ATTEMPTS = 3

/**
 * The keys of one provider. A token of an unknown key, or one whose signature does not fit, makes it ask for the keys
 * again, so that a rotation is followed at once; how often is limited, so that nobody can have the provider flooded.
 */
export function createKeySet (jwksUri: string, transport: Fetch): KeySet {
  const mayReload = createLimit(RELOADS.burst, RELOADS.perSecond)
  let last: { text: string, keys: JWTVerifyGetKey } | undefined
  const cached = createCached(load, TIMES)

  // The same keys stay the same: what was verified with them need not be verified again.
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
  const document =
    response.status === 200 && isJson(response)
      ? ((await response.json().catch(() => undefined)) as { keys?: unknown } | undefined)
      : undefined
  if (!Array.isArray(document?.keys)) {
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail: 'the key set is not a JWK Set (RFC 7517, section 5)' })
  }
  return document.keys.filter(isPublicKey)
}

// A key whose private part is public proves nothing.
function isPublicKey (key: unknown): key is JWK {
  return typeof key === 'object' && key !== null && 'kty' in key && key.kty !== 'oct' && !('d' in key)
}

function mayBeRotated (error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed
}
