import { errors, jwtVerify } from 'jose'
import { OidcError } from '../errors.ts'
import { createCached } from '../util/cached.ts'
import { isRecord } from '../util/json.ts'
import { readJson } from './json-response.ts'
import { createFittingKeys, readKeys } from './keys.ts'
import { describeResponse } from './transport.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { CryptoKey, JWTVerifyGetKey, JWTVerifyOptions, JWTVerifyResult } from 'jose'
import type { FittingKeys } from './keys.ts'
import type { Fetch } from '../../types/options.ts'

export interface KeySet {
  /** Verifies a token with the provider's keys. Throws an error of jose, or an OidcError when there are no keys. */
  verify: Verify
  /** The same for the tokens of a login or a refresh, which have their own limit: no flood of tokens uses it up. */
  ofLogins: { verify: Verify }
  /** Fetches the keys when they are missing or too old. Returns whether they are fresh now. Throws without keys. */
  load: () => Promise<boolean>
  /** The keys, unless they are missing or too old. The same object as long as the keys are the same. */
  known: () => unknown
  /** Since when the keys are known, in seconds. `undefined` when there are none yet. */
  age: () => number | undefined
}

type Verify = (token: string, options: JWTVerifyOptions) => Promise<JWTVerifyResult>

const MINUTE = 60_000
const TIMES = { maxAge: 10 * MINUTE, maxStale: 24 * 60 * MINUTE, retryAfter: 1000 }
/** Tokens with unknown keys may cause `burst` fetches at once, then `perSecond`. Logins have a limit of their own. */
const RELOADS = { burst: 5, perSecond: 1 }
/** A fetch that began before the token was signed may lack its key. The next fetch has it. */
const ATTEMPTS = 3

/**
 * The keys of one provider. A token with an unknown key or a wrong signature causes a new fetch, so that a key rotation
 * works at once. The number of fetches is limited, so that forged tokens cannot flood the provider with requests.
 */
export function createKeySet (jwksUri: string, transport: Fetch, log: FastifyBaseLogger): KeySet {
  const warn = createWarning(jwksUri, log)
  let last: { text: string, keys: FittingKeys } | undefined
  let loadedAt: number | undefined
  const cached = createCached(load, TIMES)

  // The same keys stay the same object: caches of verified tokens compare it.
  async function load (): Promise<FittingKeys> {
    const { usable, leftOut } = readKeys(await fetchKeys(jwksUri, transport))
    warn(leftOut)
    const text = JSON.stringify(usable)
    if (text !== last?.text) last = { text, keys: createFittingKeys(usable) }
    loadedAt = Date.now()
    return last.keys
  }

  function createVerify (): Verify {
    const mayReload = createLimit(RELOADS.burst, RELOADS.perSecond)

    async function verify (
      token: string,
      options: JWTVerifyOptions,
      keys: FittingKeys,
      attempts: number
    ): Promise<JWTVerifyResult> {
      try {
        return await verifyWithAny(token, keys, options)
      } catch (error) {
        const newer = attempts > 1 && mayBeRotated(error) ? await cached.newerThan(keys, mayReload) : keys
        if (newer === keys) throw error
        return await verify(token, options, newer, attempts - 1)
      }
    }

    return async (token, options) => await verify(token, options, await cached.get(), ATTEMPTS)
  }

  return {
    verify: createVerify(),
    ofLogins: { verify: createVerify() },
    known: cached.fresh,
    age: () => loadedAt === undefined ? undefined : (Date.now() - loadedAt) / 1000,
    async load () {
      await cached.get()
      return cached.fresh() !== undefined
    }
  }
}

/**
 * Tries the keys that fit one after the other: a rotation may use a `kid` again, or a key set may have a key twice. A
 * claim is only checked after the signature, so that a failed claim is the answer.
 */
async function verifyWithAny (token: string, keys: FittingKeys, options: JWTVerifyOptions): Promise<JWTVerifyResult> {
  let untried: CryptoKey[] | undefined
  const nextKey: JWTVerifyGetKey = async (header) => {
    untried ??= await keys(header)
    const key = untried.shift()
    if (key === undefined) throw new errors.JWKSNoMatchingKey()
    return key
  }
  for (;;) {
    try {
      return await jwtVerify(token, nextKey, options)
    } catch (error) {
      const mayTryAnother = error instanceof errors.JWSSignatureVerificationFailed && untried?.length !== 0
      if (!mayTryAnother) throw error
    }
  }
}

/** Warns of keys that are left out, once as long as they are the same. */
function createWarning (jwksUri: string, log: FastifyBaseLogger): (leftOut: string[]) => void {
  let last = '[]'
  return (leftOut) => {
    const text = JSON.stringify(leftOut)
    if (text !== last && leftOut.length > 0) log.warn({ jwksUri, leftOut }, 'keys of the provider are not used')
    last = text
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

/** The keys as the provider publishes them. Throws an OidcError. */
export async function fetchKeys (jwksUri: string, transport: Fetch): Promise<unknown[]> {
  const response = await transport(jwksUri, { headers: { accept: 'application/json, application/jwk-set+json' } })
  return (await readJwks(response, describeResponse(response))).keys
}

/** The JWK Set of a response. `description`: what the response is, for the log. Throws FST_OIDC_PROVIDER_RESPONSE. */
export async function readJwks (response: Response, description: string): Promise<{ keys: unknown[] }> {
  const document = response.status === 200 ? await readJson(response) : undefined
  if (isRecord(document) && Array.isArray(document['keys'])) return { ...document, keys: document['keys'] }
  throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', {
    detail: `${description}, not a JWK Set (RFC 7517, section 5)`
  })
}

function mayBeRotated (error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed
}
