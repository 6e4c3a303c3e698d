import { calculateJwkThumbprint, createLocalJWKSet, exportJWK, generateKeyPair, importJWK } from 'jose'
import { isUnreadable } from '../store/sealed-store.ts'
import { createCached } from '../util/cached.ts'
import { now } from '../util/time.ts'
import type { CryptoKey, JWK, JWTVerifyGetKey } from 'jose'
import type { OidcError } from '../errors.ts'
import type { BrokerSettings, SigningAlg } from '../options/broker.ts'
import type { Entry, EntryName, SealedStore } from '../store/sealed-store.ts'

/**
 * The keys that sign access tokens: one set for all processes, encrypted in the store.
 * Each function throws FST_OIDC_STORE_UNAVAILABLE.
 */
export interface SigningKeys {
  /** The key that signs now. */
  current: () => Promise<SigningKey>
  /** The public keys of all tokens that are still valid, and of the next ones (RFC 7517). */
  jwks: () => Promise<{ keys: JWK[] }>
  /** Verifies tokens. */
  verifier: () => Promise<JWTVerifyGetKey>
  /** The `verifier`, if it is known without asking the store. It is another object when the keys have changed. */
  known: () => unknown
  /** How long the key has signed that signs now, in seconds. `undefined` when the keys are not known yet. */
  age: () => number | undefined
  /** Adds a key. It is published at once, and signs after PUBLISHED_BEFORE. */
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
  /**
   * When the last token has expired that this key can have signed, in seconds since the epoch. The processes that sign
   * with the key postpone it. Version 0.1.0 did not write it.
   */
  neededUntil?: number
}

interface KeyRing {
  stored: StoredKey[]
  signing: SigningKey[]
  jwks: { keys: JWK[] }
  verifier: JWTVerifyGetKey
}

const NAME: EntryName = ['signing-keys']
/** How long a key is published before it signs, in seconds: verifiers may cache the key set. */
export const PUBLISHED_BEFORE = 600
/** How long a process may sign with a key before it must say so again, in seconds; and when it does. */
const IN_USE = { for: 300, renewedBefore: 120 }
/** How long a key of another algorithm stays if no process says that it needs it, in seconds. */
const DAY = 86_400
const RELOAD = { maxAge: 60_000, maxStale: 3_600_000, retryAfter: 1000 }
/** How long the store keeps the keys, in seconds. */
const TEN_YEARS = 315_360_000

export function createSigningKeys (
  { signingAlg, keyLifetime, accessTokenTtl }: BrokerSettings,
  store: SealedStore
): SigningKeys {
  let known: StoredKey[] = []
  let opened: KeyRing | undefined
  const ring = createCached(async () => {
    known = await update(addDueKey)
    // Unchanged keys keep their key ring: tokens that were verified with it need not be verified again.
    if (opened === undefined || !areSame(opened.stored, known)) opened = await openKeys(known)
    return opened
  }, RELOAD)

  async function newKey (): Promise<StoredKey> {
    return inUse(await createKey(signingAlg, now() + PUBLISHED_BEFORE))
  }

  function inUse (key: StoredKey): StoredKey {
    return { ...key, neededUntil: Math.max(now(), key.signsFrom) + IN_USE.for + accessTokenTtl }
  }

  /** Says of its own newest key that it is in use. A key of another algorithm may have no process any more. */
  function withUse (key: StoredKey, index: number, keys: readonly StoredKey[]): StoredKey {
    if (keys.slice(index + 1).some(({ alg }) => alg === key.alg)) return key
    const { neededUntil = 0 } = key
    if (isOwn(key)) return neededUntil < now() + IN_USE.renewedBefore + accessTokenTtl ? inUse(key) : key
    return neededUntil === 0 ? { ...key, neededUntil: now() + DAY } : key
  }

  /** Adds the next key if it is due, and removes the keys whose tokens have all expired. */
  async function addDueKey (keys: readonly StoredKey[]): Promise<StoredKey[]> {
    if (keys.length === 0) return [inUse(await createKey(signingAlg, now()))]
    const newest = keys.filter(isOwn).at(-1)
    const isDue = newest === undefined || newest.signsFrom + keyLifetime <= now()
    return [...keys.map(withUse).filter(isNeeded), ...(isDue ? [await newKey()] : [])]
  }

  function currentOf (stored: StoredKey[]): StoredKey {
    const begun = stored.filter(({ signsFrom }) => signsFrom <= now())
    return (begun.filter(isOwn).at(-1) ?? begun.at(-1) ?? stored[0]) as StoredKey
  }

  // Other processes may be configured with another algorithm. They sign with keys of that algorithm.
  function isOwn ({ alg }: StoredKey): boolean {
    return alg === signingAlg
  }

  function isNeeded (key: StoredKey, index: number, keys: readonly StoredKey[]): boolean {
    const next = keys.slice(index + 1).find(({ alg }) => alg === key.alg)
    if (next !== undefined) return next.signsFrom + accessTokenTtl + PUBLISHED_BEFORE > now()
    return isOwn(key) || (key.neededUntil as number) > now()
  }

  /**
   * Changes the keys in the store. If several processes start at the same time, all use the keys of the first.
   * If the store has lost the keys, this process writes its own copy.
   */
  async function update (change: (keys: readonly StoredKey[]) => Promise<StoredKey[]>): Promise<StoredKey[]> {
    for (;;) {
      const entry = await store.get<StoredKey[]>(NAME)
      const before = entry?.content ?? known
      const after = await change(before)
      const isUnchanged = after.length === before.length && after.every((key, index) => key === before[index])
      if (entry?.rotated === false && isUnchanged) return before
      if (await write(entry, after)) return after
    }
  }

  /** Returns `false` when another process was faster. */
  async function write (entry: Entry<StoredKey[]> | null, keys: StoredKey[]): Promise<boolean> {
    const expiresAt = now() + TEN_YEARS
    if (entry === null) return (await store.create(NAME, keys, expiresAt)) !== null
    return await store.replace(NAME, entry, keys, expiresAt)
  }

  return {
    async current () {
      const { stored, signing } = await ring.get()
      const { kid: current } = currentOf(stored)
      return signing.find(({ kid }) => kid === current) as SigningKey
    },

    jwks: async () => (await ring.get()).jwks,
    verifier: async () => (await ring.get()).verifier,
    known: () => ring.fresh()?.verifier,
    age: () => opened === undefined ? undefined : now() - currentOf(opened.stored).signsFrom,

    async rotate () {
      const addKey = async (): Promise<StoredKey[]> =>
        await update(async (keys) => [...(await addDueKey(keys)), await newKey()])
      await addKey().catch(async (error: OidcError) => {
        if (!isUnreadable(error)) throw error
        // The session key that sealed them is gone, and so are all tokens that these keys have signed.
        await store.remove(NAME)
        await addKey()
      })
      await ring.reload()
    }
  }
}

function areSame (opened: readonly StoredKey[], stored: readonly StoredKey[]): boolean {
  const textOf = (keys: readonly StoredKey[]): string =>
    JSON.stringify(keys.map(({ kid, signsFrom }) => [kid, signsFrom]))
  return textOf(opened) === textOf(stored)
}

async function createKey (alg: SigningAlg, signsFrom: number): Promise<StoredKey> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 3072 })
  const jwk = await exportJWK(privateKey)
  return { kid: await calculateJwkThumbprint(jwk), alg, jwk, signsFrom } // RFC 7638
}

async function openKeys (stored: StoredKey[]): Promise<KeyRing> {
  const jwks = { keys: stored.map(toPublicKey) }
  const signing = await Promise.all(stored.map(async ({ kid, alg, jwk }): Promise<SigningKey> => {
    return { kid, alg, key: (await importJWK(jwk, alg)) as CryptoKey }
  }))
  return { stored, signing, jwks, verifier: createLocalJWKSet(jwks) }
}

/** Only the members that are named here are published. */
function toPublicKey ({ kid, alg, jwk: { kty, crv, x, y, n, e } }: StoredKey): JWK {
  return JSON.parse(JSON.stringify({ kty, crv, x, y, n, e, kid, alg, use: 'sig' })) as JWK
}
