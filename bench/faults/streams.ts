import { decodeJwt } from 'jose'
import { client } from '../../lib/testing/index.ts'
import type { Injectable, Page, Provider, TestBrowser } from '../../lib/testing/index.ts'
import type { Cause } from './fault.ts'
import type { Got } from './ledger.ts'

/** Requests of one kind, by one user or by new ones. */
export interface Stream {
  name: string
  what: What
  /** Milliseconds from one request to the next, and how many may be on their way. */
  every: number
  width: number
  /** `done`: there is nothing more to ask for. */
  ask: () => Promise<Got | 'done'>
}

/** What is asked for. `ended sessions`: a page, with the cookies of a session whose logout was acknowledged. */
export type What = 'pages' | 'logins' | 'logouts' | 'ended sessions' | 'access tokens' | 'API'

export type StreamName = 'access tokens' | 'known tokens' | 'new tokens' | 'new keys'

/** The application with the sessions in one place, as its users see it. */
export interface Site {
  name: string
  baseUrl: string
  /** The address of its back-channel logout. */
  backchannel: string
  app: Injectable
  provider: Provider
  cause: Cause
  /** The browsers as they were before their logouts, which were acknowledged. */
  ended: TestBrowser[]
}

export interface User {
  sub: string
  browser: TestBrowser
}

export const AUDIENCE = 'https://api.example.com'

const GOOD: Got = { verdict: 'good', shown: '200' }
const shownOf = (status: number, verdict: Got['verdict']): Got => ({ verdict, shown: String(status) })

/** The own page, or 503. */
function judge ({ status, text }: Pick<Page, 'status' | 'text'>, sub: string, { cause }: Site): Got {
  const isLoggedOut = status === 401 || (status === 200 && text() === '{"sub":null}')
  if (isLoggedOut && cause.sessions !== undefined) return { verdict: 'unavailable', shown: `sessions ${cause.sessions}` }
  if (status === 200) return isOf(text(), sub) ? GOOD : { verdict: 'wrong', shown: `200 with ${text()}` }
  return shownOf(status, status === 503 ? 'unavailable' : 'wrong')
}

function isOf (text: string, sub: string): boolean {
  const body = JSON.parse(text) as { sub?: string, token?: string }
  return body.sub === sub && (body.token?.includes('.') !== true || decodeJwt(body.token).sub === sub)
}

/** A request that gets no answer. */
async function attempt (site: Site, send: () => Promise<Got | 'done'>): Promise<Got | 'done'> {
  return await send().catch((error: Error): Got => {
    const mayBreak = site.cause.breaksConnections === true
    return { verdict: mayBreak ? 'unavailable' : 'wrong', shown: mayBreak ? 'no answer' : `no answer (${error.message})` }
  })
}

let users = 0

export async function logIn (site: Site, sub = `user-${++users}`): Promise<{ user: User, page: Page }> {
  const browser = client({ app: site.app, baseUrl: site.baseUrl })
  return { user: { sub, browser }, page: await browser.goto(`/login-as?sub=${sub}`) }
}

/** A user who is logged in before the fault. Where other work shares the cores, a login may need more than one try. */
export async function newUser (site: Site, tries = 20): Promise<User> {
  const { user, page } = await logIn(site)
  if (page.status === 200 && isOf(page.text(), user.sub)) return user
  if (page.status === 503 && tries > 1) return await newUser(site, tries - 1)
  throw new Error(`a login failed: ${page.status} ${page.text()}`)
}

export function pages (site: Site, user: User): Stream {
  let count = 0
  return streamOf(site, 'pages', 100, 20, async () => {
    const got = judge(await user.browser.fetch(++count % 2 === 0 ? '/me' : '/maybe'), user.sub, site)
    if (got.shown === 'sessions are lost') user.browser = (await logIn(site, user.sub)).user.browser
    return got
  })
}

export function logins (site: Site): Stream {
  return streamOf(site, 'logins', 300, 20, async () => {
    const { user, page } = await logIn(site)
    const isRefused = page.status === site.cause.refusesLoginsWith
    return isRefused ? shownOf(page.status, 'unavailable') : judge(page, user.sub, site)
  })
}

export function accessTokens (site: Site, { sub, browser }: User): Stream {
  return streamOf(site, 'access tokens', 150, 20, async () => judge(await browser.fetch('/token'), sub, site))
}

/** Tries to log out until that is acknowledged. */
export function logout (site: Site, { browser }: User): Stream {
  return untilAcknowledged(site, browser, async () => {
    const post = { method: 'POST', body: '', from: site.baseUrl }
    const { status, history: [hop] } = await browser.step('/auth/logout', post)
    const removesSession = hop?.setCookie.some((line) => line.startsWith('oidc=; Max-Age=0')) === true
    if (status < 400 && removesSession) return 'acknowledged'
    return shownOf(status, status === 503 && !removesSession ? 'unavailable' : 'wrong')
  })
}

/** Lets the provider log the user out, until that is acknowledged. Else it gets 400 (Back-Channel Logout 1.0, 2.8). */
export function backchannelLogout (site: Site, { sub, browser }: User): Stream {
  return untilAcknowledged(site, browser, async () => {
    const { status } = await site.provider.sendLogoutToken(site.backchannel, { app: site.app, sub })
    return status === 200 ? 'acknowledged' : { verdict: 'unavailable', shown: `${status} to the provider` }
  })
}

function untilAcknowledged (site: Site, browser: TestBrowser, send: () => Promise<Got | 'acknowledged'>): Stream {
  const before = browser.clone()
  let isOver = false
  return streamOf(site, 'logouts', 300, 1, async () => {
    if (isOver) return 'done'
    const got = await send()
    if (got !== 'acknowledged') return got
    isOver = true
    site.ended.push(before)
    return { verdict: 'good', shown: 'done' }
  })
}

/** The cookies of sessions that have ended let no request in. */
export function endedSessions (site: Site): Stream {
  let count = 0
  return streamOf(site, 'ended sessions', 150, 20, async () => {
    const browser = site.ended[++count % site.ended.length] as TestBrowser
    const { status } = await browser.clone().fetch('/me')
    return shownOf(status, status === 401 ? 'good' : status === 503 ? 'unavailable' : 'wrong')
  })
}

/** An access token, and whose it is. */
export interface Token {
  sub: string
  token: string
}

/** Requests of a program, with the access token that `tokenFor` returns. */
export function api (
  site: Site,
  name: string,
  every: number,
  tokenFor: () => Promise<Token | Got>
): Stream {
  return streamOf(site, 'API', every, 20, async () => {
    const found = await tokenFor()
    if ('verdict' in found) return found
    const headers = { authorization: `Bearer ${found.token}` }
    const { statusCode, rawPayload } = await site.app.inject({ url: '/api', headers })
    return judge({ status: statusCode, text: () => rawPayload.toString() }, found.sub, site)
  }, name)
}

let streams = 0

function streamOf (
  site: Site,
  what: What,
  every: number,
  width: number,
  ask: Stream['ask'],
  name: string = what
): Stream {
  return { name: `${site.name}, ${name} ${++streams}`, what, every, width, ask: async () => await attempt(site, ask) }
}
