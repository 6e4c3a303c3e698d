import { randomBytes } from 'node:crypto'
import { createBoundedMap } from './bounded-map.ts'
import { addSetCookie } from './cookies.ts'
import { now } from './time.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { OidcError } from './errors.ts'
import type { Settings } from './options.ts'
import type { Session, SessionCookies } from './session-cookies.ts'
import type { OidcSession, OidcTokens } from '../types/claims.ts'

/** What a request knows of its session. */
interface Current {
  session: Session | null
  /** When it was read, in seconds since the epoch. */
  time: number
  rotated: boolean
  /** The tokens, once they were opened or replaced. */
  tokens: Partial<OidcTokens> | null
  /** For the response, as long as the session lives when it is sent. */
  setCookies: readonly string[]
  /** What all the cookies of the session take, when `setCookies` are all of them. */
  bytes: number
  /** For the response in any case. */
  removals: readonly string[]
}

declare module 'fastify' {
  interface FastifyRequest {
    [kCurrent]: Current | null
  }
}

export interface NewSession {
  session: Omit<OidcSession, 'id' | 'loginTime' | 'expiresAt'>
  claims: Session['claims']
  user: Session['user']
  tokens: OidcTokens
}

export interface Sessions {
  /** The session of a request, or `null`. */
  read: (request: FastifyRequest) => Session | null
  /** Begins the idle time again, now and then, and seals with the newest key. */
  touch: (request: FastifyRequest) => void
  /** The tokens of the session, as far as they are kept. */
  tokens: (request: FastifyRequest) => Partial<OidcTokens>
  /** A session with a new identity; the one before ends. Throws FST_OIDC_SESSION_TOO_LARGE. */
  begin: (request: FastifyRequest, content: NewSession) => void
  replaceTokens: (request: FastifyRequest, tokens: OidcTokens) => void
  /** Whether the browser had a session, be it over by now. */
  isKnown: (request: FastifyRequest) => boolean
  /** Ends the session for good: its cookies are worth nothing any more, wherever they were copied to. `null` when there is none. */
  end: (request: FastifyRequest) => Session | null
  /**
   * Writes the cookies and the caching headers of a response that depends on the session; runs before it is sent.
   * Returns the size of the session's cookies in bytes when it wrote them all, else 0.
   */
  finish: (request: FastifyRequest, reply: FastifyReply) => number
}

export const kCurrent: unique symbol = Symbol('fastify-oidc session')

/** Ended sessions are remembered until they would have expired; past this number the oldest are forgotten. */
const MAX_ENDED = 100_000
const CLOCK_TOLERANCE = 60

export function createSessions ({ session: { maxAge, idleTimeout } }: Settings, cookies: SessionCookies): Sessions {
  const ended = createBoundedMap<true>(MAX_ENDED)

  function isAlive ({ version, session, seenAt }: Session, time: number): boolean {
    return version === 1 && time < Math.min(session.expiresAt, session.loginTime + maxAge, seenAt + idleTimeout) &&
      seenAt <= time + CLOCK_TOLERANCE && ended.get(session.id) === undefined
  }

  function current (request: FastifyRequest): Current {
    request[kCurrent] ??= load(request.headers.cookie)
    return request[kCurrent]
  }

  function load (header: string | undefined): Current {
    const opened = cookies.open(header)
    const time = now()
    if (opened === undefined) return stateOf(null, time)
    if (opened === null || !isAlive(opened.session, time)) return stateOf(null, time, cookies.remove(header))
    return stateOf(opened.session, time, NOTHING, opened.rotated)
  }

  function write (request: FastifyRequest, session: Session, tokens: Partial<OidcTokens>): void {
    const written = cookies.write(request.headers.cookie, session, tokens, session.session.expiresAt - now())
    request[kCurrent] = { ...written, time: now(), rotated: false, tokens, removals: NOTHING }
  }

  function tokensOf (request: FastifyRequest): Partial<OidcTokens> {
    const state = current(request)
    if (state.session === null) return {}
    state.tokens ??= cookies.openTokens(request.headers.cookie, state.session)
    return state.tokens
  }

  function forget ({ session }: Session): void {
    ended.set(session.id, true, session.expiresAt)
  }

  return {
    read: (request) => current(request).session,

    tokens: tokensOf,

    touch (request) {
      const state = current(request)
      const { time } = state
      if (state.session === null || (!state.rotated && time - state.session.seenAt < idleTimeout / 10)) return
      const session = { ...state.session, seenAt: time }
      if (state.rotated) write(request, session, tokensOf(request))
      else {
        state.session = session
        state.setCookies = [cookies.rewrite(session, session.session.expiresAt - time)]
      }
    },

    begin (request, content) {
      const before = current(request).session
      write(request, newSession(content, maxAge), content.tokens)
      if (before !== null) forget(before)
    },

    replaceTokens (request, tokens) {
      const { session } = current(request)
      if (session === null) return
      const scopes = tokens.scope?.split(' ').filter(Boolean) ?? session.session.scopes
      const next = { ...session, session: { ...session.session, scopes }, revision: session.revision + 1 }
      try {
        write(request, next, tokens)
      } catch (error) {
        // The new refresh token is the only one that still works: rather go without the hint for the logout.
        request.log.warn({ detail: (error as OidcError).detail }, 'the refreshed ID token does not fit into the cookies')
        const { id_token: _, ...smaller } = tokens
        write(request, next, smaller)
      }
    },

    isKnown: (request) => Boolean(cookies.open(request.headers.cookie)),

    end (request) {
      const { session } = current(request)
      // When another request ended it meanwhile, the browser may have a new one by now, under the same names.
      const over = session !== null && ended.get(session.session.id) !== undefined
      if (session !== null && !over) forget(session)
      const removals = over ? NOTHING : cookies.remove(request.headers.cookie)
      request[kCurrent] = stateOf(null, now(), removals)
      return over ? null : session
    },

    finish (request, reply) {
      const state = request[kCurrent]
      if (state === null) return 0
      const { bytes, setCookies, removals } = state
      // The session may have ended while the request was under way: nothing brings it back then.
      const alive = setCookies.length > 0 && state.session !== null && isAlive(state.session, now())
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

const NOTHING: readonly string[] = []
const WRITTEN = { setCookies: NOTHING, removals: NOTHING, bytes: 0 }

function stateOf (session: Session | null, time: number, removals = NOTHING, rotated = false): Current {
  return { session, time, rotated, tokens: null, setCookies: NOTHING, bytes: 0, removals }
}

/** A session that begins now, with an identity of its own; `maxAge` in seconds. */
export function newSession ({ session, claims, user }: Omit<NewSession, 'tokens'>, maxAge: number): Session {
  const time = now()
  const identity = { id: randomBytes(16).toString('base64url'), loginTime: time, expiresAt: time + maxAge }
  return { version: 1, session: { ...session, ...identity }, claims, user, seenAt: time, revision: 0 }
}

/** A response that depends on a session belongs to nobody else; one that sets cookies is not stored at all (security.md S40). */
function preventCaching (reply: FastifyReply, setsCookies: boolean): void {
  const own = reply.getHeader('cache-control')
  if (setsCookies || own === undefined || !/(?:^|,)\s*private\s*(?:,|$)/i.test(String(own))) reply.header('cache-control', 'no-store')
  const vary = reply.getHeader('vary')
  if (vary === undefined) reply.header('vary', 'Cookie')
  else if (!/(?:^|,)\s*(?:cookie|\*)\s*(?:,|$)/i.test(String(vary))) reply.header('vary', `${String(vary)}, Cookie`)
}
