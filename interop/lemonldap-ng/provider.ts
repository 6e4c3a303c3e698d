import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import { AUDIENCE, clients } from '../clients.ts'
import { formsOf, submit } from '../forms.ts'
import type { InteropProvider, Visitor } from '../provider.ts'

/** LemonLDAP::NG 2.16 of Debian 12, with the configuration lmConf-1.json. */
export const lemonldapNg: InteropProvider = {
  name: 'lemonldap-ng',
  // `clientAuth`: it reads HTTP Basic only up to the first + or / of the base64 text, and decodes nothing.
  // `trustedAudiences`: the additional audiences of a client are in its ID tokens, too. `introspectionAudience`: an
  // answer has neither `aud` nor `token_type`.
  options: {
    userinfo: true,
    clientAuth: 'client_secret_post',
    trustedAudiences: [AUDIENCE],
    bearer: {
      audience: AUDIENCE,
      strictType: false,
      introspectionAudience: 'optional',
      clients: [clients.service.clientId]
    }
  },
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
