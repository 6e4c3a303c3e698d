import { checkWith } from '../errors.ts'
import { sha256 } from '../util/crypto.ts'
import type { FastifyRequest } from 'fastify'
import type { Check } from '../errors.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { PresentedToken } from './authorization-header.ts'
import type { DpopProofs } from './dpop.ts'
import type { Confirmation } from './verified-token.ts'

/**
 * Checks that the request proves the key or the certificate to which its token is bound
 * (RFC 9449, section 7.1; RFC 8705, section 3). Throws FST_OIDC_TOKEN, FST_OIDC_DPOP, FST_OIDC_DPOP_NONCE.
 */
export type SenderConstraint = (
  request: FastifyRequest,
  presented: PresentedToken,
  confirmation: Confirmation | undefined
) => Promise<void>

const check: Check = checkWith('FST_OIDC_TOKEN')

export function createSenderConstraint (
  settings: Pick<BearerSettings, 'dpopRequired' | 'clientCertificate'>,
  proofs: DpopProofs | undefined
): SenderConstraint {
  // For its own request a proof counts again: a second guard, which may run at the same time, sees no replay.
  const proven = new WeakMap<FastifyRequest, { token: string, jkt: Promise<string> }>()

  async function provenKey (proofs: DpopProofs, request: FastifyRequest, token: string): Promise<string> {
    const known = proven.get(request)
    if (known?.token === token) return await known.jkt
    const jkt = proofs.verify(request, token)
    proven.set(request, { token, jkt })
    return await jkt
  }

  function checkCertificate (request: FastifyRequest, expected: unknown): void {
    if (expected === undefined) return
    check(expected === thumbprintOf(settings.clientCertificate(request)), 'it is bound to another certificate')
  }

  return async (request, { scheme, token }, confirmation = {}) => {
    const { jkt, 'x5t#S256': certificate, ...unknown } = confirmation
    const isBoundToKey = jkt !== undefined
    // Unknown members are ignored beside one that is checked (RFC 7800, section 3.1).
    const isChecked = isBoundToKey || certificate !== undefined
    check(isChecked || Object.keys(unknown).length === 0, 'it is bound in a way that is not known here')
    check(isBoundToKey || scheme !== 'dpop', 'it is not bound to a key')
    check(!isBoundToKey || scheme === 'dpop', 'it is bound to a key, and needs a proof')
    check(isBoundToKey || !settings.dpopRequired, 'it is not bound to a key')
    checkCertificate(request, certificate)
    if (!isBoundToKey) return
    check(proofs !== undefined, 'it is bound to a key, which is not accepted here')
    check((await provenKey(proofs, request, token)) === jkt, 'it is bound to another key')
  }
}

/** `x5t#S256` of a certificate (RFC 8705, section 3.1). */
function thumbprintOf (certificate: Uint8Array | string | undefined): string | undefined {
  if (certificate === undefined) return undefined
  const der = typeof certificate === 'string'
    ? Buffer.from(certificate.replace(/-----[^-]+-----|\s/g, ''), 'base64')
    : certificate
  return sha256(der)
}
