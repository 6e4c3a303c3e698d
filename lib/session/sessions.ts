import { OidcError } from '../errors.ts'
import { sessionDigest } from '../http/completed.ts'
import { replaceSetCookies, replaceSetCookiesEarly } from '../http/cookies.ts'
import { preventCaching, preventCachingEarly } from '../http/headers.ts'
import { now } from '../util/time.ts'
import { splitWords } from '../util/words.ts'
import { createReportEarly } from './report-early.ts'
import { createReportUnreadable } from './report-unreadable.ts'
import { NO_SESSION, createSessionLookup } from './session-lookup.ts'
import { newSession, selectTokens } from './session.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { SessionSettings } from '../options/session.ts'
import type { SourcedClaims } from '../provider/claim-sources.ts'
import type { Provider } from '../provider/provider.ts'
import type { Entry } from '../store/sealed-store.ts'
import type { ReportEnd } from './report-end.ts'
import type { OpenedSession, WrittenUser } from './session-cookies.ts'
import type { Lookup, Resolved, SessionLookupParts } from './session-lookup.ts'
import type { SessionRecord } from './session-records.ts'
import type { NewSession, Session, SessionTokens } from './session.ts'
import type { OidcSession, OidcTokens } from '../../types/claims.ts'
import type { LogoutContext } from '../../types/options.ts'

export interface Sessions {
  /** Where a request keeps its session; each registration has its own key. */
  readonly key: typeof kSession
  /**
   * The error FST_OIDC_OUTSIDE for a request outside the scope of this registration: there, nothing writes cookies and
   * caching headers. Guards answer with it.
   */
  scopeError: (request: FastifyRequest) => OidcError | undefined
  /** Asks the tenant and the store about the session, where that is necessary. The functions below need it. */
  prepare: (request: FastifyRequest) => Promise<void> | undefined
  /** The session of a request, or `null`. */
  read: (request: FastifyRequest) => Session | null
  /** Why the cookie of a request does not log it in, for the log. */
  explain: (request: FastifyRequest) => string
  /** The provider of the session. Only for a request that has a session. */
  provider: (request: FastifyRequest) => Provider
  /** Starts the idle time again when a part of it is over, and seals the session with the newest key. */
  touch: (request: FastifyRequest) => void
  /**
   * Sets what there is to write on the reply at once, and what comes later when it comes: an application may reply
   * without Fastify, and then `finish` never runs.
   */
  writeEarly: (request: FastifyRequest, reply: FastifyReply) => void
  /** The tokens that the session keeps. */
  tokens: (request: FastifyRequest) => Promise<SessionTokens>
  /**
   * Starts a session with a new identifier, and ends the previous one.
   * Throws FST_OIDC_SESSION_TOO_LARGE, and FST_OIDC_LOGIN_REQUIRED when a logout came during the login.
   */
  begin: (request: FastifyRequest, provider: Provider, content: NewSession) => Promise<void>
  /** Saves what a refresh gave. Throws FST_OIDC_LOGIN_REQUIRED when the session has ended in the meantime. */
  replaceTokens: (
    request: FastifyRequest,
    tokens: OidcTokens & SessionTokens,
    claims: SourcedClaims
  ) => Promise<void>
  /**
   * Replaces the user, in a cookie of its own. Throws FST_OIDC_LOGIN_REQUIRED when there is no session or it has ended
   * in the meantime, and FST_OIDC_SESSION_TOO_LARGE.
   */
  replaceUser: (request: FastifyRequest, user: Session['user']) => Promise<void>
  /** The provider of the session in the browser's cookie, also of one that has ended or expired. */
  origin: (request: FastifyRequest) => { name: string, id: string } | undefined
  /** What stands in the log for the session of a request, also for one that has ended or expired. */
  digest: (request: FastifyRequest) => string | undefined
  /**
   * Ends the session. Copies of its cookies are no longer accepted either.
   * Returns `true` when there was a session and no other request has ended it.
   */
  end: (request: FastifyRequest, reason: LogoutContext['reason']) => Promise<boolean>
  /**
   * Writes the cookies and the caching headers of a response that depends on the session; runs before it is sent.
   * Returns the size of the session's cookies in bytes when it wrote more than the idle time, else 0.
   */
  finish: (request: FastifyRequest, reply: FastifyReply) => number
  /**
   * Sets the caching headers of a response that depends on the session, or sets cookies of the plugin. Returns whether
   * the response is for one user.
   */
  preventCaching: (request: FastifyRequest, reply: FastifyReply) => boolean
}

/** What is known about the session of a request. */
interface RequestSession {
  lookup: Resolved
  /** Whether the session was read: only then the response depends on it. */
  asked: boolean
  /** When the session was looked up, in seconds since the epoch. */
  time: number
  /** The tokens, once they were opened or replaced. */
  tokens: SessionTokens | null
  /** The record, once it was read from the store. */
  record: Entry<SessionRecord> | null
  /** For the response, if the session is still live when it is sent. */
  setCookies: readonly string[]
  /** The size of all cookies of the session, when `setCookies` are all of them. */
  bytes: number
  /** For the response in any case. */
  removals: readonly string[]
  /** The reply, once a guard has let the session pass. */
  reply: FastifyReply | null
  /** The cookies that are set on the reply already. */
  shown: readonly string[]
  /** The cookie of a user that was replaced. */
  user: WrittenUser | null
}

declare module 'fastify' {
  interface FastifyRequest {
    [kSession]?: RequestSession | null
  }
}

export declare const kSession: unique symbol

export interface SessionParts extends SessionLookupParts {
  reportEnd: ReportEnd
}

/** A response that takes longer than this, in seconds, does not write the old tokens again. */
const LONG_RESPONSE = 120
const NOTHING: readonly string[] = []
const WRITTEN = { setCookies: NOTHING, removals: NOTHING, shown: NOTHING, bytes: 0, user: null }
const WITHOUT_ID_TOKEN = { detail: 'a logout does not name the session at the provider: "session.store" keeps the token' }
const CROWDED = 'all cookies of this host together are more than proxies such as nginx take by default (8 KiB), and other ' +
  'processes and other software on this host share this limit: "session.store" keeps the session small'

export function createSessions (settings: SessionSettings, parts: SessionParts): Sessions {
  const { maxAge, idleTimeout, tokens: tokenNames, cookieName, formerName } = settings
  const { cookies, records, endedSessions, reportEnd } = parts
  const { lookUp, resolve, isUnexpired, explain } = createSessionLookup(settings, parts)
  const reportUnreadable = createReportUnreadable(cookieName)
  const reportEarly = createReportEarly()
  const key: typeof kSession = Symbol('fastify-oidc session') as never

  function current (request: FastifyRequest): RequestSession {
    request[key] ??= stateOf(request, resolvedOf(lookUp(cookies.open(request.headers.cookie))))
    request[key].asked = true
    return request[key]
  }

  function stateOf ({ headers, log }: FastifyRequest, lookup: Resolved): RequestSession {
    if (lookup.status === 'unreadable') reportUnreadable(headers.cookie, log)
    if (lookup.status === 'early') reportEarly(lookup.session, log)
    return newState(lookup, lookup.status === 'invalid' ? cookies.remove(headers.cookie) : NOTHING)
  }

  async function resolveLater (request: FastifyRequest, opened: OpenedSession): Promise<void> {
    request[key] = stateOf(request, await resolve(request, opened))
  }

  /** The session in the cookie, even if its provider is not known at the moment. */
  function unexpired ({ headers: { cookie } }: FastifyRequest): Session | null {
    const opened = cookies.open(cookie)
    return opened != null && isUnexpired(opened.session) ? opened.session : null
  }

  function write (request: FastifyRequest, provider: Provider, session: Session, tokens: SessionTokens): void {
    const written = cookies.write(request.headers.cookie, session, tokens, session.session.expiresAt - now())
    if (written.isWithoutIdToken) {
      request.log.warn(WITHOUT_ID_TOKEN, 'the refreshed ID token is not kept: it does not fit into the cookies')
    }
    const { user } = current(request)
    replaceState(request, { ...liveState(session, provider, { ...written, tokens }), user })
  }

  /** The size of the session's cookies in the next request, without that of its user. */
  function sizeOf ({ headers: { cookie } }: FastifyRequest, { bytes }: RequestSession): number {
    return bytes > 0 ? bytes : cookies.size(cookie)
  }

  function replaceState (request: FastifyRequest, next: RequestSession): void {
    const { reply, shown } = current(request)
    request[key] = Object.assign(next, { reply, shown })
    show(next)
  }

  /** Sets the cookies on the reply before it is sent. */
  function show (state: RequestSession): void {
    const { reply, shown, removals } = state
    const setCookies = setCookiesOf(state)
    const next = setCookies.length > 0 ? setCookies : removals
    if (reply === null || reply.raw.headersSent || next.length + shown.length === 0) return
    replaceSetCookiesEarly(reply, shown, next)
    preventCaching(reply, true)
    reply.raw.setHeader('cache-control', 'no-store')
    state.shown = next
  }

  function writeSessionOnly (header: string | undefined, state: RequestSession, live: Live, session: Session): void {
    state.lookup = { ...live, session }
    // Tokens may have been replaced before: their cookies follow the first one.
    const age = session.session.expiresAt - state.time
    state.setCookies = [cookies.rewrite(header, session, age), ...state.setCookies.slice(1)]
    show(state)
  }

  /** Ends the session that a new one replaces. Returns it, or `null` when there was none. */
  async function endPrevious (previous: OidcSession | undefined, session: Session): Promise<OidcSession | null> {
    try {
      if (await endedSessions.isMarked(session)) throw loggedOutMeanwhile()
      return previous !== undefined && await endedSessions.end(previous.id) ? previous : null
    } catch (error) {
      // The browser does not get the cookie.
      await records?.remove(session.session.id).catch(() => {})
      throw error
    }
  }

  function preventCachingOf (request: FastifyRequest, reply: FastifyReply): boolean {
    const lines = reply.getHeader('set-cookie')
    const setsCookies = lines !== undefined && [lines].flat().map(String).some((line) =>
      line.startsWith(cookieName) || line.startsWith(formerName))
    const isOfSession = setsCookies || request[key]?.asked === true
    // A response to an access token belongs to its user as well. A shared cache keeps it only when
    // Cache-Control allows that (RFC 9111, section 3.5).
    const hasToken = request.oidcToken != null
    if (isOfSession || (hasToken && reply.hasHeader('cache-control'))) preventCaching(reply, setsCookies)
    return isOfSession || hasToken
  }

  return {
    key,
    scopeError: (request) => request[key] === undefined ? outside() : undefined,
    preventCaching: preventCachingOf,

    prepare (request) {
      if (request[key] != null) return undefined
      const lookup = lookUp(cookies.open(request.headers.cookie))
      if (lookup.status === 'unresolved') return resolveLater(request, lookup.opened)
      // A record that an older key sealed is sealed again.
      if (lookup.status === 'live' && lookup.rotated && records !== undefined) return resolveLater(request, lookup)
      request[key] = stateOf(request, lookup)
      return undefined
    },

    read: (request) => sessionOf(current(request)),

    explain: ({ headers: { cookie } }) => explain(cookies.open(cookie)),

    provider: (request) => (current(request).lookup as Live).provider,

    async tokens (request) {
      const state = current(request)
      const session = sessionOf(state)
      if (session === null) return {}
      if (records !== undefined) {
        state.record ??= await records.find(session.session.id)
        state.tokens ??= state.record?.content.tokens ?? {}
      }
      state.tokens ??= cookies.openTokens(request.headers.cookie, session)
      return state.tokens
    },

    touch (request) {
      const state = current(request)
      const { lookup, time } = state
      if (lookup.status !== 'live') return
      const { session: before, provider, rotated } = lookup
      if (!rotated && time - before.seenAt < idleTimeout / 10) return
      const { cookie } = request.headers
      const session = { ...before, seenAt: time }
      if (rotated && before.userBytes !== undefined) {
        state.user = cookies.writeUser(cookie, before, before.session.expiresAt - time)
      }
      const tokens = rotated && records === undefined ? cookies.openTokens(cookie, session) : null
      if (tokens !== null && !areReplacedSoon(tokens, time)) write(request, provider, session, tokens)
      else writeSessionOnly(cookie, state, lookup, session)
    },

    writeEarly (request, reply) {
      const state = request[key]
      if (state == null || !state.asked) return
      state.reply = reply
      if (!reply.raw.headersSent) preventCachingEarly(reply)
      show(state)
    },

    async begin (request, provider, content) {
      const { cookie } = request.headers
      const { lookup } = current(request)
      const isPresent = lookup.status === 'live' || lookup.status === 'early'
      const present = isPresent ? lookup.session.session : undefined
      const previous = present ?? content.before
      const session = newSession(provider, content, maxAge)
      const written = cookies.write(cookie, session, content.tokens, maxAge)
      // The request may come without the cookies of the session that ends: the new ones take their place.
      const hidden = present === undefined && previous !== undefined ? [cookies.forgetUser(cookie)] : []
      await records?.create(session, selectTokens(content.tokens, tokenNames))
      const ended = await endPrevious(previous, session)
      if (written.isWithoutIdToken) {
        request.log.info(WITHOUT_ID_TOKEN, 'the ID token is not kept: it does not fit into the cookies')
      }
      if (written.crowd !== undefined) request.log.warn(written.crowd, CROWDED)
      const setCookies = [...written.setCookies, ...hidden]
      replaceState(request, liveState(session, provider, { ...written, setCookies, tokens: content.tokens }))
      if (ended !== null) await reportEnd(ended, 'login', request)
    },

    async replaceTokens (request, tokens, claims) {
      const { lookup, record } = current(request)
      if (lookup.status !== 'live') return
      const next = renewed(lookup.session, tokens, claims)
      await records?.replaceTokens(record, next.session, selectTokens(tokens, tokenNames))
      // Meanwhile `updateUser` may have replaced the user, or a logout may have ended the session.
      const latest = sessionOf(current(request))
      if (latest?.session.id !== next.session.id) return
      const { user, userBytes } = latest
      write(request, lookup.provider, { ...next, user, ...(userBytes !== undefined && { userBytes }) }, tokens)
    },

    async replaceUser (request, user) {
      const before = sessionOf(current(request))
      // A logout may have come since the request began.
      if (before === null || await endedSessions.isEnded(before)) throw noSession()
      const state = current(request)
      const { lookup } = state
      if (lookup.status !== 'live' || lookup.session.session.id !== before.session.id) throw noSession()
      const { cookie } = request.headers
      const session = { ...lookup.session, user }
      const written = cookies.writeUser(cookie, session, session.session.expiresAt - now())
      cookies.checkUser(cookie, written, sizeOf(request, state))
      state.lookup = { ...lookup, session: { ...session, userBytes: written.bytes } }
      state.user = written
      show(state)
    },

    origin (request) {
      const opened = cookies.open(request.headers.cookie)
      return opened == null ? undefined : { name: opened.session.session.provider, id: opened.session.issuedBy }
    },

    digest (request) {
      const lookup = request[key]?.lookup
      const known = lookup?.status === 'live' ? lookup : cookies.open(request.headers.cookie)
      return known == null ? undefined : sessionDigest(known.session.session.id)
    },

    async end (request, reason) {
      const state = current(request)
      const read = sessionOf(state)
      const session = read ?? unexpired(request)
      const isFirst = session !== null && await endedSessions.end(session.session.id)
      // If another request has ended it, the browser may already have a new session in the same cookies.
      const isOurs = state.lookup.status !== 'unreadable' && (read === null || isFirst)
      const removals = isOurs ? cookies.remove(request.headers.cookie) : NOTHING
      replaceState(request, { ...newState(NO_SESSION, removals), asked: true })
      if (isFirst) await reportEnd(session.session, reason, request)
      return isFirst
    },

    finish (request, reply) {
      const state = request[key]
      if (state == null || !state.asked) return 0
      const { bytes, user, removals, shown } = state
      const setCookies = setCookiesOf(state)
      const session = sessionOf(state)
      // If the session has ended while the request ran, no cookie of this response may restore it.
      const isAlive = setCookies.length > 0 && session !== null && isUnexpired(session) &&
        endedSessions.isEndedHere(session) !== true
      const written = isAlive ? setCookies : removals
      if (written.length === 0 && shown.length === 0) return 0
      replaceSetCookies(reply, shown, written)
      const isLarger = isAlive && (bytes > 0 || user !== null)
      const size = isLarger ? sizeOf(request, state) + (session.userBytes ?? 0) : 0
      // An error in a later hook sends another response with the headers of this one.
      Object.assign(state, WRITTEN)
      return size
    }
  }
}

/** What is written while the session is live. */
function setCookiesOf ({ setCookies, user }: RequestSession): readonly string[] {
  return user === null ? setCookies : [...setCookies, user.setCookie]
}

type Live = Extract<Resolved, { status: 'live' }>

/** Before `prepare`, a session that must be looked up in the store or at the tenant counts as no session. */
function resolvedOf (lookup: Lookup): Resolved {
  return lookup.status === 'unresolved' ? NO_SESSION : lookup
}

function sessionOf ({ lookup }: RequestSession): Session | null {
  return lookup.status === 'live' ? lookup.session : null
}

function newState (lookup: Resolved, removals = NOTHING): RequestSession {
  return {
    lookup,
    asked: false,
    time: now(),
    tokens: null,
    record: null,
    setCookies: NOTHING,
    bytes: 0,
    removals,
    reply: null,
    shown: NOTHING,
    user: null
  }
}

function liveState (
  session: Session,
  provider: Provider,
  written: Pick<RequestSession, 'setCookies' | 'bytes' | 'tokens'>
): RequestSession {
  const { setCookies, bytes, tokens } = written
  const lookup: Resolved = { status: 'live', session, provider, rotated: false }
  return { ...newState(lookup), asked: true, setCookies, bytes, tokens }
}

function renewed (
  { sources: _, ...before }: Session,
  { scope }: OidcTokens,
  { claims, sources }: SourcedClaims
): Session {
  const scopes = scope === undefined ? before.session.scopes : splitWords(scope)
  const session = { ...before.session, scopes }
  return { ...before, session, claims, ...(sources !== undefined && { sources }), revision: before.revision + 1 }
}

function outside (): OidcError {
  const detail = 'the route has no cookies and no caching headers of the plugin: register the plugin in the scope of ' +
    'the route or around it, before the route, and not below another prefix'
  return new OidcError('FST_OIDC_OUTSIDE', { detail })
}

function noSession (): OidcError {
  return new OidcError('FST_OIDC_LOGIN_REQUIRED', { detail: 'there is no session, or it has ended in the meantime' })
}

function loggedOutMeanwhile (): OidcError {
  return new OidcError('FST_OIDC_LOGIN_REQUIRED', { detail: 'a logout of the user came during the login' })
}

// A parallel request may refresh the tokens. This response would then write the used refresh token again.
function areReplacedSoon (tokens: SessionTokens, time: number): boolean {
  const { refresh_token: refreshToken, expires_at: expiresAt } = tokens
  return refreshToken !== undefined && expiresAt !== undefined && expiresAt < time + LONG_RESPONSE
}
