/** Seconds since the epoch, as the times in tokens and sessions are written (RFC 7519, section 2: NumericDate). */
export function now (): number {
  return Math.floor(Date.now() / 1000)
}
