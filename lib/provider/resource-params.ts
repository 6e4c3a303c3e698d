/** Resource indicators as parameters of a request (RFC 8707, section 2). */
export function resourceParams (resource: string[]): URLSearchParams {
  return new URLSearchParams(resource.map((value): [string, string] => ['resource', value]))
}
