import { isIP } from 'node:net'

const bareHost = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')

/** Whether browsers trust the host without TLS. */
export const isLoopback = (url: URL): boolean =>
  /^(localhost|.+\.localhost|127(\.\d+){3}|::1)$/.test(bareHost(url))

/** Secure Contexts, section 3.1. */
export const isTrustworthy = (url: URL): boolean => url.protocol === 'https:' || isLoopback(url)

// Without a list of public suffixes: a site is the last two labels, so `a.co.uk` and `b.co.uk` are the same site
const registrable = (url: URL): string => {
  const host = bareHost(url)
  return isIP(host) ? host : host.split('.').slice(-2).join('.')
}

/** http and https of the same host are different sites. */
export const isSameSite = (a: URL, b: URL): boolean =>
  a.protocol === b.protocol && registrable(a) === registrable(b)
