import { constants, createHmac, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { KeyAlg, SigningKey } from './keys.ts'
import type { Claims } from './token-options.ts'

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

/** Creates a compact JWS. By hand, because a library refuses to create the wrong ones that faults need. */
export const compact = (header: Claims, claims: Claims, signature: (data: Buffer) => Buffer): string => {
  const input = `${encode(header)}.${encode(claims)}`
  return `${input}.${signature(Buffer.from(input)).toString('base64url')}`
}
