import assert from 'node:assert/strict'
import type { OidcOptions } from '../index.ts'
import type { Page, TestBrowser } from '../lib/testing/index.ts'
import { startApplication } from './application.ts'
import type { Application } from './application.ts'
import type { BehaviourName } from './behaviours/index.ts'
import { clients, users } from './clients.ts'
import type { Client, ClientName } from './clients.ts'
import { framesOf, textOf } from './forms.ts'
import type { InteropProvider, Visitor } from './provider.ts'

export type Metadata = Record<string, unknown> & { issuer: string, token_endpoint: string }

/** What a behaviour works with. */
export interface Lab {
  provider: InteropProvider
  metadata: Metadata
  /** Starts an application with the registration of a client. It is closed when the behaviour ends. */
  start: (client: ClientName, options?: Partial<OidcOptions>, changes?: Partial<Client>) => Promise<Application>
  /** Opens a page, and answers all pages of the provider on the way. */
  visit: (browser: TestBrowser, url: string, visitor?: Visitor) => Promise<Page>
  /** Answers all pages of the provider, from this one on. */
  goOn: (browser: TestBrowser, page: Page, visitor?: Visitor) => Promise<Page>
  close: () => Promise<void>
}

const MAX_PAGES = 8

export function visitor (changes: Partial<Visitor> = {}): Visitor {
  return { user: users.alice, consents: true, asked: [], ...changes }
}

export function createLab (provider: InteropProvider, metadata: Metadata, behaviour: BehaviourName): Lab {
  const applications: Application[] = []
  const origin = new URL(metadata.issuer).origin

  async function start (
    name: ClientName,
    options: Partial<OidcOptions> = {},
    changes: Partial<Client> = {}
  ): Promise<Application> {
    const registered = name === 'web' ? provider.clientFor?.[behaviour] ?? name : name
    const application = await startApplication({ ...clients[registered], ...changes }, {
      issuer: metadata.issuer,
      ...provider.options,
      ...provider.optionsFor?.[behaviour],
      ...options
    })
    applications.push(application)
    return application
  }

  async function goOn (browser: TestBrowser, first: Page, who = visitor()): Promise<Page> {
    let page = first
    for (let pages = 0; new URL(page.url).origin === origin && page.location === undefined; pages++) {
      assert.ok(pages < MAX_PAGES, `the provider does not stop asking (${who.asked.join(', ')}): ${textOf(page)}`)
      for (const frame of framesOf(page)) await browser.goto(frame, { from: page.url, dest: 'iframe' })
      const next = await provider.answer(browser, page, who)
      if (next === undefined) return page
      page = next
    }
    return page
  }

  return {
    provider,
    metadata,
    start,
    goOn,
    visit: async (browser, url, who) => await goOn(browser, await browser.goto(url), who),
    close: async () => { for (const application of applications) await application.close() }
  }
}

/** Fails unless the page is what the application shows at this path. */
export function arrived (page: Page, { baseUrl, errors, log }: Application, path: string, status = 200): void {
  const refusal = errors.at(-1)
  const reason = refusal === undefined ? '' : ` (${refusal.code}: ${refusal.detail ?? refusal.message})`
  const last = log.at(-1)?.slice(0, 400) ?? ''
  const where = `${page.status} at ${page.url}${reason}: ${textOf(page)}${last === '' ? '' : `; log: ${last}`}`
  assert.ok(page.url === `${baseUrl}${path}` && page.status === status, `expected ${status} at ${path}, got ${where}`)
}
