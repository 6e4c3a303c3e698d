import { client } from '../../lib/testing/index.ts'
import { ORIGIN, SESSION_COOKIE } from './application.ts'
import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import type { Child } from '../child.ts'
import type { Issuers } from './application.ts'
import type { Entrance } from './entrance.ts'
import type { Ledger } from './ledger.ts'
import type { Answer, Sent } from './remote.ts'
import type { StoreKind } from './stores.ts'
import type { Timeline } from './timeline.ts'

/** What all who act know. */
export interface World {
  kind: StoreKind
  issuers: Issuers
  provider: Child
  /** One for all processes or, for sticky browsers, one for each. */
  entrances: Entrance[]
  timeline: Timeline
  ledger: Ledger
  isOver: () => boolean
}

export const HOST = new URL(ORIGIN).host

export function openBrowser ({ injectable }: Pick<Entrance, 'injectable'>): TestBrowser {
  return client({ app: injectable, baseUrl: ORIGIN })
}

/** Whether a session was set, and not only removed: that of the application with one provider, or of the tenants. */
export function setsSession (setCookies: readonly string[], suffix: '' | '-tenant' = ''): boolean {
  const start = `${SESSION_COOKIE}${suffix}=`
  return setCookies.some((line) => line.startsWith(start) && !line.startsWith(`${start};`))
}

export function codeIn (text: string): string | undefined {
  return /FST_OIDC_[A-Z_]+|temporarily_unavailable/.exec(text)?.[0]
}

/** Describes a response in a few words. */
export function describe (page: Page): string {
  return [
    page.status,
    codeIn(page.text()) ?? '',
    ...page.history.map(({ method, url, status }) => `${method} ${shorten(url)} ${status}`)
  ].join(' ')
}

function shorten (url: string): string {
  return url.replace(/\?.*/, '?').slice(0, 80)
}

export function isOfProvider (code: string | undefined): boolean {
  return code === 'FST_OIDC_PROVIDER_UNAVAILABLE' || code === 'FST_OIDC_PROVIDER_RESPONSE'
}

/** A refresh that has failed is not tried again for so long, in milliseconds (docs/operations.md, "Outages"). */
const SHARED_FAILURE = 5000

/** Whether a fault of the provider or the store explains this answer. */
export function isExplained (timeline: Timeline, status: number, code: string | undefined, since: number): boolean {
  if (status < 500) return false
  if (code === 'temporarily_unavailable') return timeline.excuses(since - SHARED_FAILURE, 'store', 'login', 'token', 'skew')
  if (code === 'FST_OIDC_STORE_UNAVAILABLE') return timeline.excuses(since, 'store')
  // After a step of its clock, a process asks the provider anew, and waits for one second.
  return isOfProvider(code) && timeline.excuses(since, 'login', 'token', 'userinfo', 'skew')
}

/** Checks that apply to every response of the application. */
export function inspect (
  { issuers, timeline, ledger }: Pick<World, 'issuers' | 'timeline' | 'ledger'>,
  sent: Sent,
  answer: Answer,
  sentAt: number
): void {
  const { statusCode, headers: { location } } = answer
  const code = statusCode >= 400 ? codeIn(answer.rawPayload.toString()) : undefined
  const line = (): string => {
    const what = code ?? answer.rawPayload.toString().slice(0, 100)
    return `${sent.method} ${sent.url.slice(0, 100)} ${statusCode} ${what} in ${Date.now() - sentAt} ms, ${timeline.describe()}`
  }
  ledger.count('requests')
  if (statusCode >= 400) ledger.count(`refused ${code ?? `status ${statusCode}`}`)
  const isExpected = statusCode < 500 || code === 'FST_OIDC_PREFETCH' || mayWait(sent, answer) ||
    isExplained(timeline, statusCode, code, sentAt)
  ledger.check('unexpected 5xx', isExpected, line)
  if (location !== undefined) {
    ledger.check('off-origin redirects', isOwn(location, issuers), () => `${line()} to ${location.slice(0, 100)}`)
  }
}

/** A token of a key that is not known yet may be asked to come again, which `api.ts` does. */
function mayWait ({ headers }: Sent, answer: Answer): boolean {
  return headers['authorization'] !== undefined && answer.statusCode === 503 && 'retry-after' in answer.headers
}

/** Where programs wait for the code of their login. */
export const PROGRAM_REDIRECT_URI = 'http://127.0.0.1:9/callback'

function isOwn (location: string, { issuer, tenants }: Issuers): boolean {
  const providers = [issuer, ...Object.values(tenants)].flatMap((issuer) => [`${issuer}/authorize?`, `${issuer}/end-session?`])
  return [`${ORIGIN}/`, `${PROGRAM_REDIRECT_URI}?`, ...providers].some((start) => location.startsWith(start))
}
