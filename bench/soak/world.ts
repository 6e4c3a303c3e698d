import { client } from '../../lib/testing/index.ts'
import { ORIGIN, SESSION_COOKIE } from './application.ts'
import { openRemote } from './remote.ts'
import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import type { Ledger } from './ledger.ts'
import type { Answer, Remote, Sent } from './remote.ts'
import type { Outages } from './outages.ts'

/** What an attacker may have stolen: a Cookie header, and the callback that was opened with it. */
export interface Stolen {
  cookie: string
  callback: string
}

/** One process of the application, and what an attacker may have stolen from its connections. */
export interface Process {
  remote: Remote
  /** The newest first. */
  stolen: Stolen[]
}

export interface World {
  issuer: string
  processes: Process[]
  outages: Outages
  ledger: Ledger
  isOver: () => boolean
}

const MAX_STOLEN = 50

export function openProcess (port: number, issuer: string, outages: Outages, ledger: Ledger): Process {
  const watch = (sent: Sent, answer: Answer, sentAt: number): void =>
    inspect({ issuer, outages, ledger }, sent, answer, sentAt)
  return { remote: openRemote(port, watch), stolen: [] }
}

export function openBrowser ({ remote }: Process): TestBrowser {
  return client({ app: remote.injectable, baseUrl: ORIGIN })
}

export function keepStolen ({ stolen }: Process, found: Stolen): void {
  stolen.unshift(found)
  stolen.length = Math.min(stolen.length, MAX_STOLEN)
}

export function pick<T> (items: readonly T[]): T {
  return items[Math.floor(Math.random() * items.length)] as T
}

/** Whether a session was set, and not only removed. */
export function setsSession (setCookies: readonly string[]): boolean {
  return setCookies.some((line) => line.startsWith(`${SESSION_COOKIE}=`) && !line.startsWith(`${SESSION_COOKIE}=;`))
}

export function codeIn (text: string): string | undefined {
  return /FST_OIDC_[A-Z_]+/.exec(text)?.[0]
}

/** Describes a response in a few words. */
export function describe (page: Page | Error): string {
  if (page instanceof Error) return page.message
  return [
    page.status,
    codeIn(page.text()) ?? '',
    ...page.history.map(({ method, url, status }) => `${method} ${shorten(url)} ${status}`)
  ].join(' ')
}

function shorten (url: string): string {
  return url.replace(/\?.*/, '?').slice(0, 80)
}

/** Whether the plugin reports a failure of the provider. */
export function isUnavailable (code: string | undefined): boolean {
  return code === 'FST_OIDC_PROVIDER_UNAVAILABLE' || code === 'FST_OIDC_PROVIDER_RESPONSE'
}

/** Checks that apply to every response of the application. */
function inspect (
  { issuer, outages, ledger }: Pick<World, 'issuer' | 'outages' | 'ledger'>,
  sent: Sent,
  answer: Answer,
  sentAt: number
): void {
  const {
    statusCode,
    headers: { location }
  } = answer
  const code = statusCode >= 400 ? codeIn(answer.rawPayload.toString()) : undefined
  const line = `${sent.method} ${sent.url.slice(0, 100)} ${statusCode} ${code ?? answer.rawPayload.toString().slice(0, 100)} in ${Date.now() - sentAt} ms, ${outages.describe()}`
  ledger.count('requests')
  if (statusCode >= 400) ledger.count(`refused ${code ?? `status ${statusCode}`}`)
  if (statusCode >= 500 && !isExpected(code, outages.wasBadForAny(sentAt, Date.now()))) {
    ledger.wrong('unexpected 5xx', line)
  }
  if (location !== undefined && !isOwn(location, issuer)) {
    ledger.wrong('off-origin redirects', `${line} to ${location.slice(0, 100)}`)
  }
}

// A prefetch is always answered with 503, even without an outage.
function isExpected (code: string | undefined, wasBad: boolean): boolean {
  return code === 'FST_OIDC_PREFETCH' || (wasBad && isUnavailable(code))
}

function isOwn (location: string, issuer: string): boolean {
  return [`${ORIGIN}/`, `${issuer}/authorize?`, `${issuer}/end-session?`].some((start) => location.startsWith(start))
}
