import assert from 'node:assert/strict'
import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import { AUDIENCE } from '../clients.ts'
import { options } from './options.ts'
import type { InteropProvider, Visitor } from '../provider.ts'

/** Glewlwyd 2.7 of Debian 12, as setup.js configures it. */
export const glewlwyd: InteropProvider = {
  name: 'glewlwyd',
  options,
  clientCredentials: { scope: 'api', resource: AUDIENCE },
  answer,
  oddities: {
    'step-up': { why: 'its auth_time is 0', shows: /auth_time is 0, .* older than max_age/ },
    'silent login': { why: 'prompt=none needs id_token_hint', shows: /id_token mandatory/ },
    introspection: { why: 'its access tokens are JWTs', shows: /the access token is a JWT/ },
    'refused consent': { why: 'its page has no way to refuse', shows: /no refusal/ }
  }
}

/** The login page is an application in JavaScript. This does what it does, by the same API (webapp-src/src/Login). */
async function answer (browser: TestBrowser, page: Page, visitor: Visitor): Promise<Page | undefined> {
  const { pathname, searchParams, origin } = new URL(page.url)
  const prompt = searchParams.get('prompt')
  if (!pathname.endsWith('/login.html') || prompt === 'deviceComplete') return undefined
  const call = async (method: string, path: string, json?: unknown): Promise<Page> =>
    await browser.fetch(`${origin}/api${path}`, { method, json, from: page.url })
  if (prompt === 'end_session' || prompt === 'single_logout') return await logOut(browser, page, visitor, call)
  if (prompt === 'login' || searchParams.has('refresh_login') || (await call('GET', '/profile_list')).status === 401) {
    visitor.asked.push('password')
    const { username, password } = visitor.user
    assert.equal((await call('POST', '/auth/', { username, password })).status, 200, 'the login failed')
  }
  await consent(visitor, searchParams, call)
  return await browser.goto(`${searchParams.get('callback_url')}&g_continue`, { from: page.url })
}

type Call = (method: string, path: string, json?: unknown) => Promise<Page>

async function consent (visitor: Visitor, params: URLSearchParams, call: Call): Promise<void> {
  const [client, scope] = [params.get('client_id') ?? '', params.get('scope') ?? '']
  const granted = await call('GET', `/auth/grant/${client}/${encodeURIComponent(scope)}`)
  const scopes = granted.json().scope as Array<{ name: string, granted: boolean }>
  if (params.get('prompt') !== 'consent' && scopes.every((each) => each.granted)) return
  visitor.asked.push('consent')
  await call('PUT', `/auth/grant/${client}`, { scope: visitor.consents ? scopes.map(({ name }) => name).join(' ') : '' })
}

async function logOut (browser: TestBrowser, page: Page, visitor: Visitor, call: Call): Promise<Page> {
  visitor.asked.push('logout')
  const { searchParams: params } = new URL(page.url)
  const session = `/${params.get('plugin')}/session/${params.get('sid')}`
  const { client = [], iss, sid } = (await call('GET', `${session}/${params.get('client_id')}`)).json()
  for (const { frontchannel_logout_uri: uri, frontchannel_logout_session_required: required } of client) {
    await browser.goto(`${uri}?iss=${iss}${required ? `&sid=${sid}` : ''}`, { from: page.url, dest: 'iframe' })
  }
  await call('DELETE', session)
  await call('DELETE', '/auth/')
  return await browser.goto(params.get('callback_url') ?? '', { from: page.url })
}
