import { isDeepStrictEqual } from 'node:util'
import { calculateJwkThumbprint, createLocalJWKSet, exportJWK, generateKeyPair, importJWK } from 'jose'
import { createCached } from '../util/cached.ts'
import { now } from '../util/time.ts'
import { isUnreadable } from '../store/sealed-store.ts'
import type { CryptoKey, JWK, JWTVerifyGetKey } from 'jose'
import type { BrokerSettings, SigningAlg } from '../options/broker.ts'
import type { OidcError } from '../errors.ts'
import type { EntryName, SealedStore } from '../store/sealed-store.ts'

/**
 * The keys that tokens are signed with: one set for all processes, encrypted in the store. Each function
 * throws FST_OIDC_STORE_UNAVAILABLE.
 */
export interface SigningKeys {
  /** The key that signs now. */
  current: () => Promise<SigningKey>
  /** The public keys of all tokens that are still good, and of those to come (RFC 7517). */
  jwks: () => Promise<{ keys: JWK[] }>
  /** For the verification of a token. */
  verifier: () => Promise<JWTVerifyGetKey>
  /** What `verifier` gives, as long as that needs no asking; another one when the keys are others. */
  known: () => unknown
  /** A new key: it is published at once, and signs after a while. */
  rotate: () => Promise<void>
}

export interface SigningKey {
  kid: string
  alg: SigningAlg
  key: CryptoKey
}

interface StoredKey {
  kid: string
  alg: SigningAlg
  jwk: JWK
  /** In seconds since the epoch. */
  signsFrom: number
}

interface KeyRing {
  stored: StoredKey[]
  signing: SigningKey[]
  jwks: { keys: JWK[] }
  verifier: JWTVerifyGetKey
}

const NAME: EntryName = ['signing-keys']
/**
 * How long a key is published before it signs, in seconds: whoever verifies tokens may keep the key set for a
 * while.
 */
export const PUBLISHED_BEFORE = 600
const RELOAD = { maxAge: 60_000, maxStale: 3_600_000, retryAfter: 1000 }
const FOREVER = 315_360_000 // seconds

export function createSigningKeys (
  { signingAlg, keyLifetime, accessTokenTtl }: BrokerSettings,
  vault: SealedStore
): SigningKeys {
  let known: StoredKey[] = []
  let opened: KeyRing | undefined
  const ring = createCached(async () => {
    known = await load(inTime)
    // The same keys stay the same: what was verified with them need not be verified again.
    if (!isDeepStrictEqual(opened?.stored, known)) opened = await open(known)
    return opened as KeyRing
  }, RELOAD)

  /** What the store is to have: a key that signs, the next one in time, and none whose tokens have all expired. */
  async function inTime (keys: readonly StoredKey[]): Promise<StoredKey[]> {
    if (keys.length === 0) return [await createKey(signingAlg, now())]
    const newest = keys.filter(isOwn).at(-1)
    const isDue = newest === undefined || newest.signsFrom + keyLifetime <= now()
    return [...keys.filter(isNeeded), ...(isDue ? [await createKey(signingAlg, now() + PUBLISHED_BEFORE)] : [])]
  }

  // Processes with another one, started with newer options perhaps, sign with their own keys.
  function isOwn ({ alg }: StoredKey): boolean {
    return alg === signingAlg
  }

  function isNeeded (key: StoredKey, index: number, keys: readonly StoredKey[]): boolean {
    const next = keys.slice(index + 1).find(({ alg }) => alg === key.alg)
    if (next === undefined && isOwn(key)) return true
    return (next?.signsFrom ?? key.signsFrom + keyLifetime) + accessTokenTtl + PUBLISHED_BEFORE > now()
  }

  /**
   * However many processes begin at once, the first one's keys are everybody's. A store that lost them gets
   * back those that are known here.
   */
  async function load (change: (keys: readonly StoredKey[]) => Promise<StoredKey[]>): Promise<StoredKey[]> {
    for (;;) {
      const found = await vault.get<StoredKey[]>(NAME)
      const before = found?.content ?? known
      const after = await change(before)
      if (found?.rotated === false && after.length === before.length && after.at(-1) === before.at(-1)) return before
      const isWritten =
        found === null
          ? (await vault.create(NAME, after, now() + FOREVER)) !== null
          : await vault.replace(NAME, found, after, now() + FOREVER)
      if (isWritten) return after
    }
  }

  return {
    async current () {
      const { stored, signing } = await ring.get()
      const begun = stored.filter(({ signsFrom }) => signsFrom <= now())
      const { kid: newest } = (begun.filter(isOwn).at(-1) ?? begun.at(-1) ?? stored[0]) as StoredKey
      return signing.find(({ kid }) => kid === newest) as SigningKey
    },

    jwks: async () => (await ring.get()).jwks,
    verifier: async () => (await ring.get()).verifier,
    known: () => ring.fresh()?.verifier,

    async rotate () {
      const addKey = async (): Promise<StoredKey[]> =>
        await load(async (keys) => [...(await inTime(keys)), await createKey(signingAlg, now() + PUBLISHED_BEFORE)])
      await addKey().catch(async (error: OidcError) => {
        if (!isUnreadable(error)) throw error
        // Made with a session key that is gone, as are all tokens of these keys.
        await vault.remove(NAME)
        await addKey()
      })
      await ring.reload()
    }
  }
}

async function createKey (alg: SigningAlg, signsFrom: number): Promise<StoredKey> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 3072 })
  const jwk = await exportJWK(privateKey)
  return { kid: await calculateJwkThumbprint(jwk), alg, jwk, signsFrom } // RFC 7638
}

async function open (stored: StoredKey[]): Promise<KeyRing> {
  const jwks = { keys: stored.map(publish) }
  const signing = await Promise.all(
    stored.map(async ({ kid, alg, jwk }) => ({ kid, alg, key: (await importJWK(jwk, alg)) as CryptoKey }))
  )
  return { stored, signing, jwks, verifier: createLocalJWKSet(jwks) }
}

/** The public part: what is not named here stays here. */
function publish ({ kid, alg, jwk: { kty, crv, x, y, n, e } }: StoredKey): JWK {
  return JSON.parse(JSON.stringify({ kty, crv, x, y, n, e, kid, alg, use: 'sig' })) as JWK
}
