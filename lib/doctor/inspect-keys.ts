import { isRecord } from '../util/json.ts'
import { readKeys } from '../provider/keys.ts'
import { finding } from './report.ts'
import type { JWK } from 'jose'
import type { Finding, KeyReport } from './report.ts'

/** How many keys are shown. */
const MAX_SHOWN = 20
const CURVES: Record<string, string> = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }

export function describeKeys (keys: unknown[]): KeyReport[] {
  return keys.slice(0, MAX_SHOWN).map((key) => {
    const members = isRecord(key) ? key : {}
    const textOf = (name: string): string | null => {
      const value = members[name]
      return typeof value === 'string' ? value.slice(0, 100) : null
    }
    return { kid: textOf('kid'), kty: textOf('kty'), alg: textOf('alg'), use: textOf('use') }
  })
}

/** What is odd about a key set. `alg` is the algorithm that ID tokens have. */
export function inspectKeys (keys: unknown[], alg: string): Finding[] {
  const { usable, leftOut } = readKeys(keys)
  return [...inspectUsable(usable, alg), ...leftOut.map((problem) => finding(
    'warning', 'key_left_out', `${problem}: it is not used`, 'Tell the operator of the provider. The other keys are used'
  ))]
}

function inspectUsable (usable: JWK[], alg: string): Finding[] {
  if (usable.length === 0) {
    return [finding(
      'error', 'no_keys',
      'no key of the key set can be used',
      'Give the provider a signing key: RSA with at least 2048 bits, EC or Ed25519'
    )]
  }
  const kids = usable.flatMap(({ kid }) => kid ?? [])
  const repeated = [...new Set(kids.filter((kid, index) => kids.indexOf(kid) !== index))]
  const unnamed = usable.length - kids.length
  return [
    ...(usable.some((key) => fits(key, alg))
      ? []
      : [finding(
          'error', 'no_key_for_alg',
          `no key fits ${alg}, the algorithm of ID tokens`,
          'Compare "idTokenSigningAlg" with the algorithm that is registered for the client, and with the keys ' +
            'of the provider'
        )]),
    ...(repeated.length === 0
      ? []
      : [finding(
          'note', 'kid_repeated',
          `several keys have the same kid: ${repeated.slice(0, 5).join(', ').slice(0, 200)}`,
          'Nothing to do: up to five keys are tried'
        )]),
    ...(unnamed === 0 || usable.length === 1
      ? []
      : [finding(
          'note', 'kid_missing',
          `${unnamed} of ${usable.length} keys have no kid`,
          'Nothing to do: up to five keys are tried'
        )])
  ]
}

function fits (key: JWK, alg: string): boolean {
  if (key.alg !== undefined && key.alg !== alg) return isEd25519(key.alg) && isEd25519(alg)
  if (/^[RP]S/.test(alg)) return key.kty === 'RSA'
  return isEd25519(alg) ? key.crv === 'Ed25519' : key.crv === CURVES[alg]
}

// RFC 9864 gives Ed25519 a name of its own; before, it was EdDSA.
function isEd25519 (alg: string): boolean {
  return alg === 'EdDSA' || alg === 'Ed25519'
}
