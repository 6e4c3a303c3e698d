export function parseUrl (value: string, base?: string): URL | null {
  return URL.canParse(value, base) ? new URL(value, base) : null
}

/** Whether a URL uses https, or http on an allowed loopback address, and has no credentials and no fragment. */
export function isSafeEndpoint (url: URL, allowInsecureLoopback: boolean): boolean {
  const isInsecureLoopback = url.protocol === 'http:' && isLoopback(url.hostname)
  const isSecure = url.protocol === 'https:' || (allowInsecureLoopback && isInsecureLoopback)
  return isSecure && url.username === '' && url.password === '' && url.hash === ''
}

export function isLoopback (hostname: string): boolean {
  return /^(?:(?:[\w-]+\.)*localhost|127(?:\.\d+){3}|\[::1\])$/.test(hostname)
}
