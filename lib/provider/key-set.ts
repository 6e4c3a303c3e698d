import { decodeProtectedHeader, errors, jwtVerify } from 'jose'
import { OidcError } from '../errors.ts'
import { atMost } from '../util/at-most.ts'
import { createCached } from '../util/cached.ts'
import { isRecord } from '../util/json.ts'
import { readJson } from './json-response.ts'
import { createFittingKeys, readKeys } from './keys.ts'
import { createReloadPermits } from './reload-permits.ts'
import { PATIENCE, RELOAD, unknownKey } from './reload.ts'
import { describeResponse } from './transport.ts'
import { mayFit } from './unverified-claims.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { CryptoKey, JWK, JWTVerifyGetKey, JWTVerifyOptions, JWTVerifyResult } from 'jose'
import type { Permits } from '../util/cached.ts'
import type { FittingKeys } from './keys.ts'
import type { TokenRules } from './unverified-claims.ts'
import type { Fetch } from '../../types/options.ts'

export interface KeySet {
  /** Verifies a token with the provider's keys. Throws an error of jose, or an OidcError when there are no keys. */
  verify: Verify
  /** The same for the tokens of a login or a refresh, which have their own limit: no flood of tokens uses it up. */
  ofLogins: { verify: Verify }
  /** The same for logout tokens. */
  ofLogouts: { verify: Verify }
  /** Fetches the keys when they are missing or too old. Returns whether they are fresh now. Throws without keys. */
  load: () => Promise<boolean>
  /** The keys, unless they are missing or too old. The same object as long as the keys are the same. */
  known: () => unknown
  /** Since when the keys are known, in seconds. `undefined` when there are none yet. */
  age: () => number | undefined
}

type Verify = (token: string, rules: TokenRules) => Promise<JWTVerifyResult>

const MINUTE = 60_000
const TIMES = { maxAge: 10 * MINUTE, maxStale: 24 * 60 * MINUTE, retryAfter: 1000, reload: RELOAD }

/**
 * The keys of one provider. A token with an unknown key or a wrong signature causes a new fetch, so that a key rotation
 * works at once. The number of fetches is limited, so that forged tokens cannot flood the provider with requests.
 * Access tokens, logins and logouts have a limit each: a flood of one kind does not stop the others.
 */
export function createKeySet (jwksUri: string, transport: Fetch, log: FastifyBaseLogger): KeySet {
  const warn = createWarning(jwksUri, log)
  let last: { usable: string, keys: FittingKeys } = { usable: '[]', keys: createFittingKeys([]) }
  let loadedAt: number | undefined
  const cached = createCached(load, TIMES)

  // The same keys stay the same object: caches of verified tokens compare it.
  async function load (): Promise<FittingKeys> {
    const { usable, leftOut } = readKeys(await fetchKeys(jwksUri, transport))
    warn(leftOut)
    const text = JSON.stringify(usable)
    if (text !== last.usable) {
      checkUsable(usable, jwksUri)
      last = { usable: text, keys: createFittingKeys(usable) }
    }
    loadedAt = Date.now()
    return last.keys
  }

  /** The keys that are known verify at once. When none fits, a load decides that has begun after the token came. */
  function createVerify (waitFor: Permits['waitFor']): Verify {
    const permits = createReloadPermits(waitFor)
    return async (token, rules) => {
      const since = cached.begun()
      let keys = await cached.get()
      for (;;) {
        try {
          return await verifyWithAny(token, keys, rules)
        } catch (error) {
          if (!mayBeRotated(error) || !mayFit(token, rules)) throw error
          const { ofUnknownKey, ofWrongSignature } = permits
          const permitted = isOfUnknownKey(error, token) ? ofUnknownKey : ofWrongSignature
          const newer = await cached.newerThan(keys, since, permitted)
          if (newer === keys) throw error
          keys = newer
        }
      }
    }
  }

  return {
    // The client of an API can come again. A login or logout that fails is lost, and waits for slow providers.
    verify: createVerify(async (load) => await atMost(PATIENCE, () => load, unknownKey)),
    ofLogins: { verify: createVerify(async (load) => await load) },
    ofLogouts: { verify: createVerify(async (load) => await load) },
    known: cached.fresh,
    age: () => loadedAt === undefined ? undefined : (Date.now() - loadedAt) / 1000,
    async load () {
      await cached.latest()
      return cached.fresh() !== undefined
    }
  }
}

/** An empty key set, or one of broken keys, must not replace the keys that are known. */
export function checkUsable (usable: JWK[], jwksUri: string): void {
  if (usable.length > 0) return
  const detail = `${jwksUri}: the JWK Set has no key that can be used, and does not replace the keys from before`
  throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail })
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

// Of keys without a `kid`, a wrong signature is all that shows.
function isOfUnknownKey (error: unknown, token: string): boolean {
  return error instanceof errors.JWKSNoMatchingKey || decodeProtectedHeader(token).kid === undefined
}

function mayBeRotated (error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed
}
