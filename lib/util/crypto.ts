import { hash, timingSafeEqual } from 'node:crypto'

/** Compares two secrets. The time does not depend on where they differ. */
export function equal (a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}

export function sha256 (
  content: string | Uint8Array,
  encoding: 'base64url' | 'base64' | 'hex' = 'base64url'
): string {
  return hash('sha256', content, encoding)
}
