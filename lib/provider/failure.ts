/** How many causes within causes are looked at. */
const MAX_DEPTH = 8

/** Reasons for which a certificate authority is missing, not the certificate wrong. */
const UNKNOWN_AUTHORITY = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'
])

/** Why a request failed, for the log: the codes of the innermost errors. Texts of errors may contain addresses. */
export function describeFailure (error: unknown): string {
  const codes = [...new Set(codesOf(error, MAX_DEPTH))]
  if (codes.length === 0) return 'no answer'
  const isUnknownAuthority = codes.some((code) => UNKNOWN_AUTHORITY.has(code))
  return codes.join(', ') + (isUnknownAuthority
    ? ': give the certificate authority by "dispatcher" or NODE_EXTRA_CA_CERTS'
    : '')
}

// An AggregateError has one error for each address that was tried (RFC 8305).
function codesOf (error: unknown, depth: number): string[] {
  if (!(error instanceof Error) || depth === 0) return []
  const causes = error instanceof AggregateError ? error.errors.slice(0, MAX_DEPTH) : [error.cause]
  const inner = causes.flatMap((cause) => codesOf(cause, depth - 1))
  const { code } = error as NodeJS.ErrnoException
  return inner.length > 0 || !isCode(code) ? inner : [code]
}

function isCode (value: unknown): value is string {
  return typeof value === 'string' && /^[A-Z][A-Z0-9_]{1,63}$/.test(value)
}
