import { random } from './context.ts'
import { hmacWith, signatureWith } from './jws.ts'
import { currentKey, foreignKey, publicJwk } from './keys.ts'
import type { Context } from './context.ts'
import type { KeyAlg, SigningKey } from './keys.ts'
import type { Alg, ProviderClient } from './options.ts'
import type { Claims, SignWith } from './token-options.ts'

interface Signer {
  header: Claims
  sign: (data: Buffer) => Buffer
}

const keySigner = (key: SigningKey): Signer =>
  ({ header: { alg: key.alg, kid: key.kid }, sign: signatureWith(key) })

const secretSigner = (client: ProviderClient): Signer =>
  ({ header: { alg: 'HS256' }, sign: hmacWith(client.client_secret ?? '') })

const regularSigner = (context: Context, alg: Alg, client: ProviderClient): Signer =>
  alg === 'HS256' ? secretSigner(client) : keySigner(currentKey(context.keys, alg))

interface TrickParts {
  key: SigningKey
  /** A key that is not in the key set. */
  attackerKey: () => SigningKey
  context: Context
  client: ProviderClient
}

const attackerSigner = ({ attackerKey }: TrickParts, header: (key: SigningKey) => Claims): Signer => {
  const key = attackerKey()
  return { header: { alg: key.alg, ...header(key) }, sign: signatureWith(key) }
}

/** Changes one bit of a signature. */
export const breakSignature = (signature: Buffer): Buffer =>
  Buffer.from(signature.map((byte, i) => i === 9 ? byte ^ 1 : byte))

const tricks: Record<Exclude<SignWith, Alg>, (parts: TrickParts) => Signer> = {
  none: () => ({ header: { alg: 'none' }, sign: () => Buffer.alloc(0) }),
  'alternate-alg': ({ key, context }) => keySigner(currentKey(context.keys, key.alg === 'PS256' ? 'RS256' : 'PS256')),
  'other-key': (parts) => attackerSigner(parts, () => ({ kid: parts.key.kid })),
  'broken-signature': ({ key }) => ({ ...keySigner(key), sign: (data) => breakSignature(signatureWith(key)(data)) }),
  'public-pem': ({ key }) => ({
    header: { alg: 'HS256', kid: key.kid },
    sign: hmacWith(key.publicKey.export({ type: 'spki', format: 'pem' }) as string)
  }),
  'public-jwk': ({ key }) => ({
    header: { alg: 'HS256', kid: key.kid },
    sign: hmacWith(JSON.stringify(publicJwk(key)))
  }),
  'client-secret': ({ client }) => secretSigner(client),
  'no-kid': ({ key }) => ({ ...keySigner(key), header: { alg: key.alg } }),
  'unknown-kid': ({ key }) => ({ ...keySigner(key), header: { alg: key.alg, kid: `unknown-${random()}` } }),
  'embedded-jwk': (parts) => attackerSigner(parts, (key) => ({ jwk: publicJwk(key) })),
  jku: (parts) => attackerSigner(parts, ({ kid }) => ({ kid, jku: `${parts.context.issuer}/attacker` })),
  x5u: (parts) => attackerSigner(parts, ({ kid }) => ({ kid, x5u: `${parts.context.issuer}/attacker` })),
  crit: ({ key }) => {
    const { header, sign } = keySigner(key)
    return { header: { ...header, crit: ['urn:unknown'], 'urn:unknown': true }, sign }
  }
}

/** The client that a token is for, and how to sign it. */
export interface SignatureChoice {
  client: ProviderClient
  signWith?: SignWith | undefined
  alg?: Alg | undefined
}

const isTrick = (signWith: SignWith): signWith is Exclude<SignWith, Alg> => signWith in tricks

/** The signer of a token: by the algorithm registered for the client, or as a fault says. */
export const signerFor = (context: Context, { client, signWith, alg = 'RS256' }: SignatureChoice): Signer => {
  if (!signWith || !isTrick(signWith)) return regularSigner(context, signWith ?? alg, client)
  const keyAlg: KeyAlg = alg === 'HS256' ? 'RS256' : alg
  const key = currentKey(context.keys, keyAlg)
  return tricks[signWith]({ key, attackerKey: () => foreignKey(context.keys, keyAlg), context, client })
}
