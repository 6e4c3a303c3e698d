import { generateKeyPairSync, randomBytes } from 'node:crypto'
import type { JSONWebKeySet, JWK } from 'jose'
import type { Fault } from '../provider/types.ts'

export const keys = (change: (keys: JWK[]) => JWK[]): Fault =>
  ({ on: 'jwks', jwks: (set: JSONWebKeySet) => ({ keys: change(set.keys) }) })

export const withoutKid = ({ kid: _, ...key }: JWK): JWK => key

// A random modulus has no private key, but a decoy needs none
const randomRsa = (members: Partial<JWK> = {}): JWK => {
  const modulus = randomBytes(256)
  modulus[0]! |= 0x80
  modulus[255]! |= 1
  return { kty: 'RSA', e: 'AQAB', n: modulus.toString('base64url'), ...members }
}

const isRsa = ({ kty }: JWK): boolean => kty === 'RSA'

export const rsaDecoy = (): JWK => randomRsa({ use: 'sig', alg: 'RS256' })

const newEcKey = (which: 'publicKey' | 'privateKey', members: Partial<JWK> = {}): JWK =>
  ({ ...generateKeyPairSync('ec', { namedCurve: 'P-256' })[which].export({ format: 'jwk' }) as JWK, ...members })

// FAPI 2.0: other keys with the same kid, which differ in alg, kty and use
const decoysOf = ({ kid = '' }: JWK): JWK[] => [
  randomRsa({ kid, use: 'enc', alg: 'RSA-OAEP' }),
  newEcKey('publicKey', { kid, use: 'sig', alg: 'ES256' }),
  randomRsa({ kid, use: 'sig', alg: 'PS256' }),
  randomRsa({ kid, use: 'sig', alg: 'RS256' }),
  { kty: 'OKP', crv: 'X25519', x: randomBytes(32).toString('base64url'), kid, use: 'enc' }
]

const withDecoys = (key: JWK): JWK[] => [...decoysOf(key).filter(({ alg }) => alg !== key.alg), key]

const strangeKeys: JWK[] = [
  { kty: 'AKP', alg: 'ML-DSA-44', pub: 'AAAA', kid: 'post-quantum' },
  { kty: 'EC', crv: 'P-999', x: 'AAAA', y: 'AAAA', kid: 'curve' },
  { kty: 'oct', k: 'AAAA', kid: 'symmetric' },
  { kty: 'RSA', n: 'AQAB', e: 'AQAB', alg: 'XS256', kid: 'algorithm' }
]

const brokenKeys = [{ kty: 'RSA', kid: 'broken', n: '!', e: 17 }, { kty: 'EC' }, {}, null, 'key', 7] as unknown as JWK[]

export const keyFaults = {
  'jwks-no-keys': keys(() => []),
  'jwks-not-an-array': { on: 'jwks', jwks: () => ({ keys: { 0: 'key' } as unknown as JWK[] }) },
  'jwks-10000-keys': keys((all) => [
    ...Array.from({ length: 10_000 }, (_, i) => randomRsa({ kid: `decoy-${i}`, use: 'sig', alg: 'RS256' })), ...all
  ]),
  'jwks-private-keys': keys((all) => [newEcKey('privateKey', { kid: 'private' }), ...all]),
  'jwks-unknown-keys': keys((all) => [...strangeKeys, ...all]),
  'jwks-malformed-keys': keys((all) => [...brokenKeys, ...all]),
  'jwks-same-kid-decoys': keys((all) => all.flatMap(withDecoys)),
  'jwks-same-kid-twice': keys((all) => [...all.filter(isRsa).map((key) => ({ ...key, ...randomRsa() })), ...all]),
  'jwks-without-kid': keys((all) => all.map(withoutKid)),
  'jwks-without-alg': keys((all) => all.map(({ alg: _, ...key }) => key)),
  'jwks-404': { on: 'jwks', status: 404 }
} satisfies Record<string, Fault>
