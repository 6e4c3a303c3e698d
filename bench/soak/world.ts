import { client } from '../../lib/testing/index.ts'
import { ORIGIN, SESSION_COOKIE } from './application.ts'
import { openRemote } from './remote.ts'
import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import type { Ledger } from './ledger.ts'
import type { Answer, Remote, Sent } from './remote.ts'
import type { Weather } from './weather.ts'

/** What an attacker may have got hold of: a Cookie header, and the callback that was opened with it. */
export interface Loot {
  cookie: string
  callback: string
}

/** One process of the application, and what was seen on its wire. */
export interface Process {
  remote: Remote
  /** The newest. */
  loot: Loot[]
}

export interface World {
  issuer: string
  processes: Process[]
  weather: Weather
  ledger: Ledger
  isOver: () => boolean
}

const MOST_LOOT = 50

export function openProcess (port: number, issuer: string, weather: Weather, ledger: Ledger): Process {
  const watch = (sent: Sent, answer: Answer, sentAt: number): void =>
    inspect({ issuer, weather, ledger }, sent, answer, sentAt)
  return { remote: openRemote(port, watch), loot: [] }
}

export function openBrowser ({ remote }: Process): TestBrowser {
  return client({ app: remote.injectable, baseUrl: ORIGIN })
}

export function keepLoot ({ loot }: Process, found: Loot): void {
  loot.unshift(found)
  loot.length = Math.min(loot.length, MOST_LOOT)
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

/** An answer in a few words. */
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

/** Whether the plugin says that it is the provider's fault. */
export function isUnavailable (code: string | undefined): boolean {
  return code === 'FST_OIDC_PROVIDER_UNAVAILABLE' || code === 'FST_OIDC_PROVIDER_RESPONSE'
}

/** What is looked at in every answer of the application, whoever asked. */
function inspect (
  { issuer, weather, ledger }: Pick<World, 'issuer' | 'weather' | 'ledger'>,
  sent: Sent,
  answer: Answer,
  sentAt: number
): void {
  const {
    statusCode,
    headers: { location }
  } = answer
  const code = statusCode >= 400 ? codeIn(answer.rawPayload.toString()) : undefined
  const line = `${sent.method} ${sent.url.slice(0, 100)} ${statusCode} ${code ?? answer.rawPayload.toString().slice(0, 100)} in ${Date.now() - sentAt} ms, ${weather.describe()}`
  ledger.count('requests')
  if (statusCode >= 400) ledger.count(`refused ${code ?? `status ${statusCode}`}`)
  if (statusCode >= 500 && !isExpected(code, weather.wasBadForAny(sentAt, Date.now()))) {
    ledger.wrong('unexpected 5xx', line)
  }
  if (location !== undefined && !isOwn(location, issuer)) {
    ledger.wrong('off-origin redirects', `${line} to ${location.slice(0, 100)}`)
  }
}

// A browser that fetches ahead of time is told that there is nothing, whatever the weather.
function isExpected (code: string | undefined, wasBad: boolean): boolean {
  return code === 'FST_OIDC_PREFETCH' || (wasBad && isUnavailable(code))
}

function isOwn (location: string, issuer: string): boolean {
  return [`${ORIGIN}/`, `${issuer}/authorize?`, `${issuer}/end-session?`].some((start) => location.startsWith(start))
}
