import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import { formsOf, submit } from '../forms.ts'
import { options } from './options.ts'
import type { InteropProvider, Visitor } from '../provider.ts'

/** LemonLDAP::NG 2.16 of Debian 12, with the configuration lmConf-1.json. */
export const lemonldapNg: InteropProvider = {
  name: 'lemonldap-ng',
  options,
  // Only this client gets access tokens that are JWTs.
  clientFor: { 'bearer token': 'other' },
  clientCredentials: { scope: 'profile' },
  answer,
  oddities: {
    'silent login': { why: 'prompt=none shows its login form', shows: /showed a page to a browser without a login/ },
    'back-channel logout': { why: 'it has none', shows: /did not hear of the logout/ },
    'front-channel logout': { why: 'its sid is the user, not a session', shows: /did not hear of the logout/ },
    'DPoP token': { why: 'it has no DPoP', shows: /does not know DPoP/ },
    'device flow': { why: 'it has none', shows: /no device_authorization_endpoint/ }
  }
}

// The module Demo takes the user's name as the password.
async function answer (browser: TestBrowser, page: Page, visitor: Visitor): Promise<Page | undefined> {
  const form = formsOf(page).find(({ html }) => /name="(password|confirm)"/.test(html))
  if (form === undefined) return undefined
  if (form.fields.has('password')) {
    visitor.asked.push('password')
    const { username } = visitor.user
    return await submit(browser, page, form, { user: username, password: username })
  }
  const isLogout = new URL(page.url).pathname.endsWith('/logout')
  visitor.asked.push(isLogout ? 'logout' : 'consent')
  // The button *Refuse* puts a minus sign before the value, by script.
  return await submit(browser, page, form, visitor.consents ? {} : { confirm: `-${form.fields.get('confirm')}` })
}
