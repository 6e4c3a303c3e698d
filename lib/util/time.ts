/** Seconds since the epoch, the unit of times in tokens (RFC 7519, section 2: NumericDate) and in sessions. */
export function now (): number {
  return Math.floor(Date.now() / 1000)
}
