import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import { AUDIENCE } from '../clients.ts'
import { attributeOf, formsOf, submit } from '../forms.ts'
import { options } from './options.ts'
import type { InteropProvider, Visitor } from '../provider.ts'

/** oidc-provider of npm, with the pages that it has for development. */
export const oidcProvider: InteropProvider = {
  name: 'oidc-provider',
  options,
  optionsFor: { 'bearer token': { resource: AUDIENCE, userinfo: false } },
  clientCredentials: { resource: AUDIENCE, scope: 'read' },
  answer,
  oddities: {
    'front-channel logout': { why: 'it has none', shows: /did not hear of the logout/ }
  }
}

async function answer (browser: TestBrowser, page: Page, visitor: Visitor): Promise<Page | undefined> {
  const [form] = formsOf(page)
  if (form === undefined) return undefined
  if (form.fields.has('login')) {
    visitor.asked.push('password')
    return await submit(browser, page, form, { login: visitor.user.username, password: visitor.user.password })
  }
  if (form.html.includes('op.logoutForm')) {
    visitor.asked.push('logout')
    return await submit(browser, page, form, {}, 'logout')
  }
  if (form.html.includes('op.device')) {
    visitor.asked.push('device')
    return await submit(browser, page, form)
  }
  visitor.asked.push('consent')
  return visitor.consents ? await submit(browser, page, form) : await browser.goto(abortUrl(page), { from: page.url })
}

function abortUrl (page: Page): string {
  const link = page.text().match(/<a\b[^>]*>/gi)?.find((tag) => tag.includes('/abort'))
  return new URL(attributeOf(link ?? '', 'href') ?? '', page.url).href
}
