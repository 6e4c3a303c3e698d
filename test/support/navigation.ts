import type { Provider } from '../../lib/testing/index.ts'

export const HTML = 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8'

/** The headers of a browser that opens a page. */
export const NAVIGATION = {
  accept: HTML,
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'sec-fetch-site': 'none'
}

/** Whether a response begins a login: a redirect to the provider, and a cookie for the pending login. */
export function beginsLogin (provider: Provider, { headers }: { headers: Record<string, unknown> }): boolean {
  return (
    String(headers['location']).startsWith(`${provider.issuer}/authorize?`) &&
    String(headers['set-cookie']).startsWith('__Host-oidc-login-')
  )
}
