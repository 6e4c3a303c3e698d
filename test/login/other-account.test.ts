import t from 'tap'
import { refuse } from '../../index.ts'
import { startApp } from '../support/app.ts'
import { authorizationParams } from '../support/protocol.ts'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { TestApp } from '../support/app.ts'
import type { Page } from '../../lib/testing/index.ts'

/** Where the link "Use another account" leads. */
function linkOf (page: Page): string | undefined {
  return /<a href="([^"]*)">Use another account<\/a>/.exec(page.text())?.[1]?.replaceAll('&#38;', '&')
}

/** An application for bob only, and a browser with alice's session at the provider. */
async function startForBob (t: Test, options: Partial<OidcOptions> = {}): Promise<TestApp> {
  return await startApp(t, {
    onClaims: ({ sub }) => { if (sub !== 'bob') throw refuse('only bob') },
    ...options
  }, { users: [{ sub: 'alice' }, { sub: 'bob' }] })
}

t.test('K12 a refused account: the page offers another one, which the provider lets the user choose', async (t) => {
  const { provider, browser } = await startForBob(t)
  const page = await browser.goto('/me?x=1')
  t.match([page.status, page.text()], [403, 'FST_OIDC_CLAIMS'])
  t.notMatch(page.text(), 'Log in again', 'single sign-on would log in the same account')
  provider.options.approve = ({ prompt }) => prompt === 'select_account' ? 'bob' : 'alice'
  const next = await browser.goto(linkOf(page) as string)
  t.match([next.status, next.url, next.json()], [200, /\/me\?x=1$/, { claims: { sub: 'bob' } }])
})

t.test('K12 a provider whose metadata does not list select_account is asked with prompt=login', async (t) => {
  const cases: Array<[supported: unknown, options: Partial<OidcOptions>, prompt: string]> = [
    [['none', 'login', 'consent'], {}, 'login'],
    [['select_account'], { authorizationParams: { prompt: 'consent' } }, 'select_account consent'],
    [undefined, {}, 'login'],
    ['select_account', {}, 'login']
  ]
  for (const [supported, options, prompt] of cases) {
    const { provider, browser } = await startForBob(t, options)
    provider.fault({ on: 'metadata', metadata: (document) => { document['prompt_values_supported'] = supported } })
    const page = await browser.goto('/me')
    const { location } = await browser.step(linkOf(page) as string)
    t.equal(authorizationParams({ location: location as string })['prompt'], prompt, JSON.stringify(supported))
  }
})

t.test('K12 a user without a role can use another account, a script gets the 403', async (t) => {
  const { app, provider, browser } = await startApp(t, {}, {
    users: [{ sub: 'alice' }, { sub: 'bob', roles: ['admin'] }]
  })
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async ({ oidcClaims }) => oidcClaims?.sub)
  const page = await browser.goto('/admin?x=1')
  t.match([page.status, page.text()], [403, 'FST_OIDC_FORBIDDEN'])
  const answer = await browser.fetch('/admin')
  t.same([answer.status, Object.keys(answer.json())], [403, ['statusCode', 'code', 'error', 'message']])
  provider.options.approve = ({ prompt }) => prompt === 'select_account' ? 'bob' : 'alice'
  const next = await browser.goto(linkOf(page) as string)
  t.match([next.status, next.url, next.text()], [200, /\/admin\?x=1$/, 'bob'])
})
