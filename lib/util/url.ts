export function parseUrl (value: string, base?: string): URL | null {
  return URL.canParse(value, base) ? new URL(value, base) : null
}

/** Whether a valid URL uses https, or http on an allowed loopback address, and has no credentials and no fragment. */
export function isSafeEndpoint (value: string, allowInsecureLoopback: boolean): boolean {
  const url = new URL(value)
  const isSecure = url.protocol === 'https:' || (allowInsecureLoopback && isLoopbackHttp(value))
  return isSecure && url.username === '' && url.password === '' && url.hash === ''
}

const LOOPBACK = /^(?:(?:[\w-]+\.)*localhost|127(?:\.\d+){3}|\[::1\])$/

/**
 * Whether a URL is http on a loopback address. The address must be written as it is: a URL parser also reads
 * `2130706433` and other spellings as 127.0.0.1, which a reader of the options does not.
 */
export function isLoopbackHttp (value: string): boolean {
  const [, written = ''] = /^http:\/\/(?:[^/?#@]*@)?(\[[^\]]*\]|[^/?#:]*)/i.exec(value) ?? []
  return LOOPBACK.test(written.toLowerCase()) && parseUrl(value)?.hostname === written.toLowerCase()
}
