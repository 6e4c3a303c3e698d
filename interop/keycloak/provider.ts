import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import { formsOf, submit } from '../forms.ts'
import { options } from './options.ts'
import type { InteropProvider, Visitor } from '../provider.ts'

/** Keycloak, with the realm of realm.json. */
export const keycloak: InteropProvider = {
  name: 'keycloak',
  options,
  answer,
  oddities: {
    introspection: { why: 'its access tokens are JWTs', shows: /the access token is a JWT/ }
  }
}

async function answer (browser: TestBrowser, page: Page, visitor: Visitor): Promise<Page | undefined> {
  const form = formsOf(page).find(({ method }) => method === 'POST')
  if (form === undefined) return undefined
  if (form.fields.has('password')) {
    visitor.asked.push('password')
    return await submit(browser, page, form, { ...visitor.user })
  }
  if (form.html.includes('kc-logout')) {
    visitor.asked.push('logout')
    return await submit(browser, page, form, {}, 'confirmLogout')
  }
  visitor.asked.push(form.fields.has('device_user_code') ? 'device' : 'consent')
  return await submit(browser, page, form, {}, visitor.consents ? 'accept' : 'cancel')
}
