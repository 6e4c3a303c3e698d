/** The words of a text that is separated by spaces, such as a scope (RFC 6749, section 3.3). */
export function splitWords (text: string): string[] {
  return text.split(' ').filter(Boolean)
}
