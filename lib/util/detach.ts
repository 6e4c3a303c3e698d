/**
 * A copy of a text. V8 keeps the whole of a text in memory as long as a part of it is in use, and the parts of a text
 * that was put together beside it.
 */
export function detach (text: string): string {
  return Buffer.from(text).toString()
}
