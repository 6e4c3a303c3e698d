import { addSetCookie } from '../http/cookies.ts'
import { OidcError } from '../errors.ts'
import { keepTokens } from './session-cookies.ts'
import { now } from '../util/time.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { EndedSessions } from './ended-sessions.ts'
import type { SessionRecord, SessionRecords } from './session-records.ts'
import type { Entry } from '../store/sealed-store.ts'
import type { Settings } from '../options/settings.ts'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { OpenedSession, SessionCookies } from './session-cookies.ts'
import { newSession } from './session.ts'
import type { NewSession, Session, SessionTokens } from './session.ts'
import type { OidcSession, OidcTokens } from '../../types/claims.ts'
import { preventCaching } from '../http/headers.ts'

/** What a request knows of its session. */
interface Current {
  session: Session | null
  /** Whether anybody asked for it: the response depends on it then. */
  asked: boolean
  /** Of the session. */
  provider: Provider | null
  /** When it was read, in seconds since the epoch. */
  time: number
  rotated: boolean
  /** The tokens, once they were opened or replaced. */
  tokens: SessionTokens | null
  /** As it was read from the store. */
  record: Entry<SessionRecord> | null
  /** For the response, as long as the session lives when it is sent. */
  setCookies: readonly string[]
  /** What all the cookies of the session take, when `setCookies` are all of them. */
  bytes: number
  /** For the response in any case. */
  removals: readonly string[]
}

declare module 'fastify' {
  interface FastifyRequest {
    [kCurrent]?: Current | null
  }
}

export interface Sessions {
  /** Where a request keeps its session; each registration has a place of its own. */
  readonly key: typeof kCurrent
  /**
   * Finds out about the session where that takes asking, a tenant or the store; the functions below see no
   * session before.
   */
  prepare: (request: FastifyRequest) => Promise<void> | undefined
  /** The session of a request, or `null`. */
  read: (request: FastifyRequest) => Session | null
  /** The provider that authenticated the person; there is one where there is a session. */
  provider: (request: FastifyRequest) => Provider
  /** Begins the idle time again, now and then, and seals with the newest key. */
  touch: (request: FastifyRequest) => void
  /** The tokens of the session, as far as they are kept. */
  tokens: (request: FastifyRequest) => Promise<SessionTokens>
  /**
   * A session with a new identity. Returns the one before, which has ended. Throws
   * FST_OIDC_SESSION_TOO_LARGE, and FST_OIDC_LOGIN_REQUIRED for whom was logged out meanwhile.
   */
  begin: (request: FastifyRequest, provider: Provider, content: NewSession) => Promise<OidcSession | null>
  /** Throws FST_OIDC_LOGIN_REQUIRED when the session has ended meanwhile. */
  replaceTokens: (request: FastifyRequest, tokens: OidcTokens & SessionTokens) => Promise<void>
  /** Who authenticated the person of the browser's session, be that over by now. */
  origin: (request: FastifyRequest) => { name: string, id: string } | undefined
  /**
   * Ends the session for good: its cookies are worth nothing any more, wherever they were copied to. `null`
   * when there is none.
   */
  end: (request: FastifyRequest) => Promise<Session | null>
  /**
   * Writes the cookies and the caching headers of a response that depends on the session; runs before it is sent.
   * Returns the size of the session's cookies in bytes when it wrote them all, else 0.
   */
  finish: (request: FastifyRequest, reply: FastifyReply) => number
}

export declare const kCurrent: unique symbol

const CLOCK_TOLERANCE = 60
/** How long a response may take, in seconds, that writes tokens again as they were. */
const LONG_RESPONSE = 120

/** What sessions depend on. */
export interface SessionParts {
  cookies: SessionCookies
  providers: Providers
  registry: EndedSessions
  /** Where the sessions are in the store. */
  records: SessionRecords | undefined
}

export function createSessions (
  { session: { maxAge, idleTimeout, tokens: keptTokens } }: Settings,
  { cookies, providers, registry, records }: SessionParts
): Sessions {
  const key: typeof kCurrent = Symbol('fastify-oidc session') as never

  function isCurrent ({ version, session, seenAt }: Session, time: number): boolean {
    return (
      version === 2 &&
      time < Math.min(session.expiresAt, session.loginTime + maxAge, seenAt + idleTimeout) &&
      seenAt <= time + CLOCK_TOLERANCE
    )
  }

  function current (request: FastifyRequest): Current {
    request[key] ??=
      load(request.headers.cookie, cookies.open(request.headers.cookie), providers.known, registry.isEndedHere) ??
      stateOf(null, null, now())
    request[key].asked = true
    return request[key]
  }

  /** What a request knows of the session in its cookie; `null` as long as nobody has asked. */
  function load (
    header: string | undefined,
    opened: ReturnType<SessionCookies['open']>,
    providerOf: Providers['known'],
    isOver: EndedSessions['isEndedHere']
  ): Current | null {
    const time = now()
    if (opened === undefined) return stateOf(null, null, time)
    if (opened === null || !isCurrent(opened.session, time)) return stateOf(null, null, time, cookies.remove(header))
    const { session, rotated } = opened
    const provider = providerOf(session.session.provider)
    const over = isOver(session)
    if (provider === undefined || over === undefined) return null
    // Another tab may have logged in anew meanwhile, under the same names of cookies: what is worth nothing
    // may stay there.
    if (over) return stateOf(null, null, time)
    // Its provider may be gone, or be another one under the same name.
    if (provider?.id !== session.issuedBy) return stateOf(null, null, time, cookies.remove(header))
    return stateOf(session, provider, time, NOTHING, rotated)
  }

  function prepare (request: FastifyRequest): Promise<void> | undefined {
    if (request[key] != null) return undefined
    const opened = cookies.open(request.headers.cookie)
    const state = load(request.headers.cookie, opened, providers.known, registry.isEndedHere)
    if (state === null || (state.rotated && records !== undefined)) return settle(request, opened as OpenedSession)
    request[key] = unasked(state)
    return undefined
  }

  async function settle (request: FastifyRequest, opened: OpenedSession): Promise<void> {
    const { session, rotated } = opened
    const [provider, over] = await Promise.all([
      providers.known(session.session.provider) ?? providers.find(request, session.session.provider),
      registry.isEndedHere(session) ?? registry.isEnded(session),
      rotated ? records?.find(session.session.id) : undefined // which seals it with the newest key as well
    ])
    request[key] = unasked(load(request.headers.cookie, opened, () => provider, () => over) as Current)
  }

  /** The session that the cookie holds, whatever is known of its provider at the moment. */
  function openedBy ({ headers: { cookie } }: FastifyRequest): OpenedSession | null {
    const opened = cookies.open(cookie)
    return opened != null && isCurrent(opened.session, now()) ? opened : null
  }

  function write (request: FastifyRequest, provider: Provider | null, session: Session, tokens: SessionTokens): void {
    const written = cookies.write(request.headers.cookie, session, tokens, session.session.expiresAt - now())
    request[key] = { ...stateOf(session, provider, now()), ...written, tokens }
  }

  /** The tokens in the cookies, or in the record. */
  async function tokensOf (request: FastifyRequest): Promise<SessionTokens> {
    const state = current(request)
    if (state.session === null) return {}
    if (records !== undefined) {
      state.record ??= await records.find(state.session.session.id)
      state.tokens ??= state.record?.content.tokens ?? {}
    }
    state.tokens ??= cookies.openTokens(request.headers.cookie, state.session)
    return state.tokens
  }

  return {
    key,

    prepare,

    read: (request) => current(request).session,

    provider: (request) => current(request).provider as Provider,

    tokens: tokensOf,

    touch (request) {
      const state = current(request)
      const { time } = state
      if (state.session === null || (!state.rotated && time - state.session.seenAt < idleTimeout / 10)) return
      const session = { ...state.session, seenAt: time }
      const tokens = state.rotated && records === undefined ? cookies.openTokens(request.headers.cookie, session) : null
      if (tokens !== null && !areReplacedSoon(tokens, time)) write(request, state.provider, session, tokens)
      else {
        state.session = session
        // The tokens may have been replaced before: their cookies follow the first.
        state.setCookies = [cookies.rewrite(session, session.session.expiresAt - time), ...state.setCookies.slice(1)]
      }
    },

    async begin (request, provider, content) {
      const before = current(request).session?.session ?? content.before
      const session = newSession(provider, content, maxAge)
      const written = cookies.write(request.headers.cookie, session, content.tokens, maxAge)
      await records?.create(session, keepTokens(content.tokens, keptTokens))
      try {
        if (await registry.isMarked(session)) {
          throw new OidcError('FST_OIDC_LOGIN_REQUIRED', { detail: 'the person was logged out while they logged in' })
        }
        const ended = before !== undefined && (await registry.end(before.id)) ? before : null
        request[key] = { ...stateOf(session, provider, now()), ...written, tokens: content.tokens }
        return ended
      } catch (error) {
        // Nobody gets the cookie.
        await records?.remove(session.session.id).catch(() => {})
        throw error
      }
    },

    async replaceTokens (request, tokens) {
      const { session, provider, record } = current(request)
      if (session === null) return
      const scopes = tokens.scope?.split(' ').filter(Boolean) ?? session.session.scopes
      const next = { ...session, session: { ...session.session, scopes }, revision: session.revision + 1 }
      if (records !== undefined) await replaceRecord(records, record, next.session, keepTokens(tokens, keptTokens))
      try {
        write(request, provider, next, tokens)
      } catch (error) {
        // The new refresh token is the only one that still works: rather go without the hint for the logout.
        request.log.warn(
          { detail: (error as OidcError).detail },
          'the refreshed ID token does not fit into the cookies'
        )
        const { id_token: _, ...smaller } = tokens
        write(request, provider, next, smaller)
      }
    },

    origin (request) {
      const opened = cookies.open(request.headers.cookie)
      return opened == null ? undefined : { name: opened.session.session.provider, id: opened.session.issuedBy }
    },

    async end (request) {
      const { session: read } = current(request)
      const session = read ?? openedBy(request)?.session ?? null
      const first = session !== null && await registry.end(session.session.id)
      // When another request ended it meanwhile, the browser may have a new one by now, under the same names.
      const removals = read === null || first ? cookies.remove(request.headers.cookie) : NOTHING
      request[key] = stateOf(null, null, now(), removals)
      return first ? session : null
    },

    finish (request, reply) {
      // What somebody got with an access token is theirs as well; shared caches keep it only when they are
      // told to (RFC 9111, section 3.5).
      if (request.oidcToken != null && reply.hasHeader('cache-control')) preventCaching(reply, false)
      const state = request[key]
      if (state == null || !state.asked) return 0
      const { bytes, setCookies, removals, session } = state
      // The session may have ended while the request was under way: nothing brings it back then.
      const alive =
        setCookies.length > 0 && session !== null && isCurrent(session, now()) && registry.isEndedHere(session) !== true
      const written = alive ? setCookies : removals
      preventCaching(reply, written.length > 0)
      if (written.length === 0) return 0
      for (const setCookie of written) addSetCookie(reply, setCookie)
      // An error in a later hook makes another response with the headers of this one.
      Object.assign(state, WRITTEN)
      return alive ? bytes : 0
    }
  }
}

/**
 * Another process may have refreshed as well, and then it has saved what came, or have sealed the same tokens again; a
 * session that is gone stays so.
 */
async function replaceRecord (
  records: SessionRecords,
  seen: Entry<SessionRecord> | null,
  session: OidcSession,
  tokens: SessionTokens
): Promise<void> {
  if (seen === null) throw new OidcError('FST_OIDC_LOGIN_REQUIRED', { detail: 'the session has ended meanwhile' })
  if (await records.replaceTokens(seen, session, tokens)) return
  const found = await records.find(session.id)
  if (found?.content.tokens.access_token === seen.content.tokens.access_token || found === null) {
    await replaceRecord(records, found, session, tokens)
  }
}

// Another request may get newer ones meanwhile, and this one would put the used refresh token back.
function areReplacedSoon (
  { refresh_token: refreshToken, expires_at: expiresAt }: SessionTokens,
  time: number
): boolean {
  return refreshToken !== undefined && expiresAt !== undefined && expiresAt < time + LONG_RESPONSE
}

const NOTHING: readonly string[] = []
const WRITTEN = { setCookies: NOTHING, removals: NOTHING, bytes: 0 }

function stateOf (
  session: Session | null,
  provider: Provider | null,
  time: number,
  removals = NOTHING,
  rotated = false
): Current {
  return {
    session,
    asked: true,
    provider,
    time,
    rotated,
    tokens: null,
    record: null,
    setCookies: NOTHING,
    bytes: 0,
    removals
  }
}

function unasked (state: Current): Current {
  state.asked = false
  return state
}
