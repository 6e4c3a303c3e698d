import { createBoundedMap } from '../util/bounded-map.ts'
import { isSameOrigin } from './fetch-metadata.ts'
import { printable } from './params.ts'
import type { FastifyRequest } from 'fastify'
import type { Settings } from '../options/settings.ts'

export interface OwnOrigin {
  /** Whether a request comes from a page of the application, or of a trusted origin. */
  isOwn: (request: FastifyRequest) => boolean
  /** Where a request comes from, and where it should come from, for the log. */
  describe: (request: FastifyRequest) => string
  /** Tells of a cookie that the test kit made. No browser has it: with it, a request without any origin is a test. */
  addTestCookie: (cookie: string) => void
}

const MAX_TEST_COOKIES = 1000

export function createOwnOrigin ({ origin, session: { trustedOrigins } }: Settings): OwnOrigin {
  const testCookies = createBoundedMap<true>(MAX_TEST_COOKIES)

  /** A browser that sends a request for another site says so in one of these headers; tests set those of an upgrade. */
  function isTest ({ headers }: FastifyRequest): boolean {
    const said = headers.origin ?? headers['sec-fetch-site'] ?? headers.upgrade
    if (testCookies.size === 0 || said !== undefined) return false
    return String(headers.cookie).split('; ').some((cookie) => testCookies.get(cookie) === true)
  }

  function describe ({ method, headers }: FastifyRequest): string {
    const { origin: sent = 'none', 'sec-fetch-site': site = 'none', upgrade } = headers
    const what = upgrade === undefined ? `a ${method}` : 'an upgrade'
    return `${what} with Origin ${printable(sent)} and Sec-Fetch-Site ${printable(String(site))}; it must come from ` +
      `${origin} or from one of "session.trustedOrigins"`
  }

  return {
    describe,
    isOwn: (request) => isSameOrigin(request, origin, trustedOrigins) || isTest(request),
    addTestCookie: (cookie) => testCookies.set(cookie, true)
  }
}
