import { generateKeyPairSync } from 'node:crypto'
import type { JSONWebKeySet, JWK } from 'jose'
import type { KeyObject } from 'node:crypto'
import type { Alg } from './options.ts'
import type { RotateOptions } from './types.ts'

export type KeyPair = { privateKey: KeyObject, publicKey: KeyObject }
export type KeyAlg = Exclude<Alg, 'HS256'>

export interface SigningKey extends KeyPair {
  kid: string
  alg: KeyAlg
}

export interface KeyRing {
  current: Map<KeyAlg, SigningKey>
  published: SigningKey[]
  /** Keys that are not in the key set. */
  foreign: Map<KeyAlg, SigningKey>
  taken: KeyPair[]
}

// To create an RSA key takes a tenth of a second, so keys of closed providers are used again. Not the last three: a
// provider that replaces another one must not have its keys.
const rsaPool: KeyPair[] = []
const rsaRest = 3
let made = 0

/** Adds keys that exist already. A process that starts few providers need not create any then. */
export const provideRsaKeys = (pairs: KeyPair[]): void => { rsaPool.push(...pairs) }

const takeRsa = (ring: KeyRing): KeyPair => {
  const pair = rsaPool.length >= rsaRest ? rsaPool.shift()! : generateKeyPairSync('rsa', { modulusLength: 2048 })
  ring.taken.push(pair)
  return pair
}

const generate: Record<KeyAlg, (ring: KeyRing) => KeyPair> = {
  RS256: takeRsa,
  PS256: takeRsa,
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519')
}

export const createKeyRing = (): KeyRing => ({ current: new Map(), published: [], foreign: new Map(), taken: [] })

const newKey = (ring: KeyRing, alg: KeyAlg, kid = `${alg}-${++made}`): SigningKey =>
  ({ ...generate[alg](ring), alg, kid })

/** The key that signs. It is created and published when it is first used. */
export const currentKey = (ring: KeyRing, alg: KeyAlg): SigningKey => {
  const key = ring.current.get(alg)
  if (key) return key
  const created = newKey(ring, alg)
  ring.current.set(alg, created)
  ring.published.push(created)
  return created
}

/** A key that is not in the key set, for signatures that no client should accept. */
export const foreignKey = (ring: KeyRing, alg: KeyAlg): SigningKey => {
  const key = ring.foreign.get(alg) ?? newKey(ring, alg)
  ring.foreign.set(alg, key)
  return key
}

export const rotate = (ring: KeyRing, { sameKid = false, keep = false }: RotateOptions): void => {
  if (!keep) ring.published = []
  for (const [alg, old] of ring.current) {
    const key = newKey(ring, alg, sameKid ? old.kid : undefined)
    ring.current.set(alg, key)
    ring.published.push(key)
  }
}

export const releaseKeys = (ring: KeyRing): void => {
  rsaPool.push(...ring.taken.splice(0))
}

export const publicJwk = ({ publicKey, kid, alg }: SigningKey): JWK =>
  ({ ...publicKey.export({ format: 'jwk' }) as JWK, kid, alg, use: 'sig' })

export const keySet = (ring: KeyRing): JSONWebKeySet => ({ keys: ring.published.map(publicJwk) })
