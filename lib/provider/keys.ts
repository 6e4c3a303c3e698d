import { X509Certificate, createPublicKey } from 'node:crypto'
import { createLocalJWKSet, errors } from 'jose'
import { isRecord } from '../util/json.ts'
import type { CryptoKey, JWK, JWTHeaderParameters } from 'jose'
import type { JsonWebKey, KeyObject } from 'node:crypto'

/** The keys that may have signed a token with this header, the likeliest first, at most `MAX_FITTING`. */
export type FittingKeys = (header: JWTHeaderParameters) => Promise<CryptoKey[]>

/** How many keys are tried for one token. */
const MAX_FITTING = 5
/** How many keys that are left out the log names. */
const MAX_NAMED = 10
const MIN_RSA_BITS = 2048 // RFC 7518, section 3.3
/**
 * How many keys are looked at, and how many of them are read at once. Reading takes time, in which no other request
 * runs, and the provider of one tenant must not stop the others.
 */
const MAX_KEYS = 20_000
const MAX_READ = 100
const UNREADABLE = 'is not a public key that can be read'

// RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1; `priv` is of newer key types.
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv']

/** The keys of a key set that can be used, in their usual form, and what is wrong with the others. */
export function readKeys (keys: unknown[]): { usable: JWK[], leftOut: string[] } {
  const usable: JWK[] = []
  const leftOut: string[] = []
  for (const [index, key] of keys.slice(0, MAX_KEYS).entries()) {
    if (isForEncryption(key)) continue
    const read = readKey(key, index < MAX_READ ? readNow : readLater)
    if (typeof read === 'object') usable.push(read)
    else if (leftOut.length < MAX_NAMED) leftOut.push(`key ${index}${nameOf(key)} ${read}`)
  }
  return { usable, leftOut }
}

// Such keys belong into a key set, but none of them signs (RFC 7517, section 4.2).
function isForEncryption (key: unknown): boolean {
  return isRecord(key) && key['use'] === 'enc'
}

/** The public members of a key, or what is wrong with it. */
type Read = (members: Record<string, unknown>) => JWK | string

/** The key, or what is wrong with it. */
function readKey (key: unknown, read: Read): JWK | string {
  if (!isRecord(key)) return 'is not an object'
  const members = withoutEmpty(key)
  // A signature proves nothing when its private key is public.
  if (PRIVATE_MEMBERS.some((name) => name in members)) return 'has private members'
  const { kid, use, alg, key_ops } = members
  if (![kid, alg, ...[key_ops].flat()].every(isTextOrAbsent)) return 'has a kid, alg or key_ops of the wrong type'
  const content = read(members)
  return typeof content === 'string' ? content : { ...content, ...withoutEmpty({ kid, use, alg, key_ops }) }
}

const readNow: Read = (members) => {
  try {
    const publicKey = importKey(members)
    const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? MIN_RSA_BITS
    return bits < MIN_RSA_BITS ? `has only ${bits} bits` : publicKey.export({ format: 'jwk' }) as JWK
  } catch {
    return UNREADABLE
  }
}

/** A key that jose reads when a token needs it. Then jose refuses one that cannot be read, or is too short. */
const readLater: Read = ({ kty, crv, n, e, x, y }) => {
  const isComplete = kty !== undefined && (n ?? x) !== undefined
  return isComplete && [kty, crv, n, e, x, y].every(isTextOrAbsent)
    ? withoutEmpty({ kty, crv, n, e, x, y }) as unknown as JWK
    : UNREADABLE
}

function isTextOrAbsent (value: unknown): boolean {
  return value === undefined || typeof value === 'string'
}

/** Some libraries write every member, those without a value as `null`, `""` or `[]`. */
function withoutEmpty (key: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(key).filter(([, value]) => {
    return value != null && value !== '' && !(Array.isArray(value) && value.length === 0)
  }))
}

/** A key may have only its certificate (RFC 7517, section 4.7). */
function importKey (members: Record<string, unknown>): KeyObject {
  const { x5c, n, x } = members
  if (n === undefined && x === undefined && Array.isArray(x5c)) {
    return new X509Certificate(Buffer.from(String(x5c[0]), 'base64')).publicKey
  }
  return createPublicKey({ key: members as JsonWebKey, format: 'jwk' })
}

function nameOf (key: unknown): string {
  const kid = isRecord(key) ? key['kid'] : undefined
  return typeof kid === 'string' ? ` (kid ${JSON.stringify(kid.slice(0, 100))})` : ''
}

/**
 * Chooses by `kid`, and then by `kty`, `alg`, `use`, `key_ops` and `crv`. A key without `kid` fits any token of its
 * algorithm, and so does any key a token without `kid`.
 */
export function createFittingKeys (jwks: JWK[]): FittingKeys {
  const all = createLocalJWKSet({ keys: jwks })
  const withoutName = jwks.filter(({ kid }) => kid === undefined)
  const unnamed = createLocalJWKSet({ keys: withoutName })
  return async ({ alg, kid }) => {
    if (kid === undefined) return await fittingIn(all, { alg })
    const named = await fittingIn(all, { alg, kid })
    // Where none can fit, jose would make an error.
    if (withoutName.length === 0) return named
    return [...named, ...await fittingIn(unnamed, { alg })].slice(0, MAX_FITTING)
  }
}

async function fittingIn (
  keys: ReturnType<typeof createLocalJWKSet>,
  header: JWTHeaderParameters
): Promise<CryptoKey[]> {
  try {
    return [await keys(header)]
  } catch (error) {
    if (error instanceof errors.JWKSNoMatchingKey) return []
    if (error instanceof errors.JWKSMultipleMatchingKeys) return await firstOf(error)
    throw error
  }
}

async function firstOf (keys: AsyncIterable<CryptoKey>): Promise<CryptoKey[]> {
  const first: CryptoKey[] = []
  for await (const key of keys) {
    if (first.push(key) === MAX_FITTING) break
  }
  return first
}
