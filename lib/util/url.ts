export function parseUrl (value: string, base?: string): URL | null {
  return URL.canParse(value, base) ? new URL(value, base) : null
}

/** https, or http on a loopback address where that is allowed; no credentials, no fragment. */
export function isSafeEndpoint (url: URL, allowInsecureLoopback: boolean): boolean {
  const secure =
    url.protocol === 'https:' || (url.protocol === 'http:' && allowInsecureLoopback && isLoopback(url.hostname))
  return secure && url.username === '' && url.password === '' && url.hash === ''
}

export function isLoopback (hostname: string): boolean {
  return /^(?:(?:[\w-]+\.)*localhost|127(?:\.\d+){3}|\[::1\])$/.test(hostname)
}
