import type { OidcOptions } from '../../index.ts'
import type { TestBrowser } from '../../lib/testing/index.ts'
import type { Module, Result } from './suite.ts'

/** A test plan of the suite in one variant. */
export interface Plan {
  name: string
  variant: Record<string, string>
  options?: Partial<OidcOptions>
  /** What the user does. */
  visit: (browser: TestBrowser, module: Module) => Promise<void>
  /** Modules that cannot pass, by name. */
  besides?: Record<string, Exception>
}

/** What a module ends with instead of PASSED. */
export interface Exception {
  result: Result
  why: string
}

const STATIC = { request_type: 'plain_http_request', client_registration: 'static_client' }
const QUERY = { ...STATIC, response_mode: 'default' }
const BASIC = { ...QUERY, client_auth_type: 'client_secret_basic' }

const WITHOUT_UNSIGNED_TOKENS = {
  'oidcc-client-test-idtoken-sig-none': { result: 'SKIPPED', why: 'an unsigned ID token is refused' }
} as const

// The keys are rotated after the first login.
async function logIn (browser: TestBrowser, { testModule }: Module): Promise<void> {
  await browser.goto('/me')
  if (!testModule.endsWith('key-rotation')) return
  browser.cookies.clear()
  await browser.goto('/me')
}

async function logOut (browser: TestBrowser): Promise<void> {
  await browser.goto('/me')
  await browser.post('/auth/logout')
}

async function refresh (browser: TestBrowser): Promise<void> {
  await browser.goto('/me')
  await browser.goto('/refreshed')
}

export const plans: Plan[] = [
  {
    name: 'oidcc-client-basic-certification-test-plan',
    variant: STATIC,
    visit: logIn,
    besides: WITHOUT_UNSIGNED_TOKENS
  },
  {
    name: 'oidcc-client-formpost-basic-certification-test-plan',
    variant: STATIC,
    options: { responseMode: 'form_post' },
    visit: logIn,
    besides: WITHOUT_UNSIGNED_TOKENS
  },
  {
    name: 'oidcc-client-config-certification-test-plan',
    variant: BASIC,
    visit: logIn,
    besides: WITHOUT_UNSIGNED_TOKENS
  },
  {
    name: 'oidcc-client-refreshtoken-test-plan',
    variant: { ...BASIC, response_type: 'code' },
    options: { scope: 'openid offline_access' },
    visit: refresh
  },
  {
    name: 'oidcc-client-back-channel-logout-rp-basic',
    variant: BASIC,
    visit: logOut
  }
]
