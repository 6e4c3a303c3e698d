import { constants, createHmac, generateKeyPairSync, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { JSONWebKeySet, JWK } from 'jose'
import type { Alg, Claims, RotateOptions } from './types.ts'

type KeyPair = { privateKey: KeyObject, publicKey: KeyObject }
export type KeyAlg = Exclude<Alg, 'HS256'>

export interface SigningKey extends KeyPair {
  kid: string
  alg: KeyAlg
}

export interface KeyRing {
  current: Map<KeyAlg, SigningKey>
  published: SigningKey[]
  /** Keys that are in no key set. */
  foreign: Map<KeyAlg, SigningKey>
  taken: KeyPair[]
}

// An RSA key takes a tenth of a second. Keys of closed providers are used again, but late enough that
// a provider that takes the place of another one does not have its keys.
const rsaPool: KeyPair[] = []
const rsaRest = 3
let made = 0

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

/** The key that signs now; made, and published, when it is first asked for. */
export const currentKey = (ring: KeyRing, alg: KeyAlg): SigningKey => {
  const key = ring.current.get(alg)
  if (key) return key
  const created = newKey(ring, alg)
  ring.current.set(alg, created)
  ring.published.push(created)
  return created
}

/** A key that is in no key set, for signatures that must not be accepted. */
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

type Sign = (data: Buffer, key: KeyObject) => Buffer

const signatures: Record<KeyAlg, Sign> = {
  RS256: (data, key) => sign('sha256', data, key),
  PS256: (data, key) => sign('sha256', data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }),
  ES256: (data, key) => sign('sha256', data, { key, dsaEncoding: 'ieee-p1363' }),
  EdDSA: (data, key) => sign(null, data, key)
}

export const signatureWith = ({ alg, privateKey }: SigningKey) => (data: Buffer): Buffer =>
  signatures[alg](data, privateKey)

export const hmacWith = (secret: string) => (data: Buffer): Buffer =>
  createHmac('sha256', secret).update(data).digest()

const encode = (part: Claims): string => Buffer.from(JSON.stringify(part)).toString('base64url')

/** A compact JWS. By hand, because a library refuses what a fault needs. */
export const compact = (header: Claims, claims: Claims, signature: (data: Buffer) => Buffer): string => {
  const input = `${encode(header)}.${encode(claims)}`
  return `${input}.${signature(Buffer.from(input)).toString('base64url')}`
}
