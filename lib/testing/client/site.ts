import { isIP } from 'node:net'

const bareHost = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')

/** A host that browsers trust without TLS. */
export const isLoopback = (url: URL): boolean =>
  /^(localhost|.+\.localhost|127(\.\d+){3}|::1)$/.test(bareHost(url))

/** Secure Contexts 3.1. */
export const isTrustworthy = (url: URL): boolean => url.protocol === 'https:' || isLoopback(url)

// There is no list of public suffixes here: a site is the last two labels, so `a.co.uk` and `b.co.uk` are one
const registrable = (url: URL): string => {
  const host = bareHost(url)
  return isIP(host) ? host : host.split('.').slice(-2).join('.')
}

/** Schemeful: http and https of one host are two sites. */
export const isSameSite = (a: URL, b: URL): boolean =>
  a.protocol === b.protocol && registrable(a) === registrable(b)
