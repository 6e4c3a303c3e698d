import { OidcError } from '../errors.ts'
import { COOKIE_BUDGET, cookieNames, readCookie } from '../http/cookies.ts'
import { createTokenCache, freeze } from '../util/token-cache.ts'
import { selectTokens } from './session.ts'
import type { Settings } from '../options/settings.ts'
import type { Sealer } from '../sealer.ts'
import type { Session, SessionTokens } from './session.ts'

export interface OpenedSession {
  session: Session
  /** Whether an older key sealed it. */
  rotated: boolean
}

export interface WrittenSession {
  session: Session
  /** The Set-Cookie values. They also remove the cookies of the request that are no longer needed. */
  setCookies: string[]
  /** The size of the cookies in a request, in bytes. */
  bytes: number
}

export interface SessionCookies {
  /** The session of a Cookie header: `undefined` when there is no cookie, `null` when no key opens it. */
  open: (header: string | undefined) => OpenedSession | null | undefined
  openTokens: (header: string | undefined, session: Session) => SessionTokens
  /** The session and its tokens; `age` in seconds. Throws FST_OIDC_SESSION_TOO_LARGE. */
  write: (header: string | undefined, session: Session, tokens: SessionTokens, age: number) => WrittenSession
  /** The session without its tokens. */
  rewrite: (session: Session, age: number) => string
  remove: (header: string | undefined) => string[]
}

/** The tokens of a session, in cookies of their own: they are opened only when they are needed. */
interface SealedTokens {
  id: string
  revision: number
  tokens: SessionTokens
}

type Cookie = [name: string, value: string]

const MAX_OPENED = 4096
/** The limit of browsers for one cookie, in bytes. */
const MAX_COOKIE = 4096
/** The length of Path, HttpOnly, Secure, SameSite and Max-Age, which some browsers count as well, in bytes. */
const ATTRIBUTES_LENGTH = 90
/** The most that fit into the budget. */
const MAX_CHUNKS = 3
/** Leaves room for pending logins, in bytes. */
const SESSION_BUDGET = COOKIE_BUDGET - 1000

export function createSessionCookies (
  { session: settings }: Pick<Settings, 'session'>,
  sealer: Sealer
): SessionCookies {
  const { cookieName, sameSite, tokens: tokenNames, inStore } = settings
  const tokensName = `${cookieName}-tokens-`
  const cache = createTokenCache<OpenedSession>(MAX_OPENED)

  function setCookie (name: string, value: string, maxAge: number): string {
    return sealer.setCookie(name, value, { maxAge, sameSite })
  }

  function removals (header: string | undefined, kept: readonly string[]): string[] {
    const isOwn = (name: string): boolean => name === cookieName || name.startsWith(tokensName)
    const stale = cookieNames(header, cookieName).filter((name) => isOwn(name) && !kept.includes(name))
    return stale.map((name) => setCookie(name, '', 0))
  }

  function sealTokens ({ session: { id }, revision }: Session, tokens: SessionTokens): string[] {
    if (tokenNames.size === 0 || inStore) return []
    const content: SealedTokens = { id, revision, tokens: selectTokens(tokens, tokenNames) }
    return split(sealer.seal('tokens', content), MAX_COOKIE - tokensName.length - 2 - ATTRIBUTES_LENGTH)
  }

  return {
    open (header) {
      const value = readCookie(header, cookieName)
      if (value === undefined) return undefined
      const known = cache.get(value)
      if (known !== undefined) return known
      const opened = sealer.open('session', value)
      if (opened === null) return null
      const session = { session: freeze(opened.content as Session), rotated: opened.rotated }
      cache.add(value, session)
      return session
    },

    openTokens (header, { session, revision }) {
      const values = Array.from({ length: MAX_CHUNKS }, (_, index) => readCookie(header, tokensName + index))
      const chunks = values.slice(0, values.includes(undefined) ? values.indexOf(undefined) : MAX_CHUNKS)
      // If the responses of parallel requests arrive in another order, an old chunk may remain at the end.
      for (let count = chunks.length; count > 0; count--) {
        const sealed = sealer.open('tokens', chunks.slice(0, count).join(''))?.content as SealedTokens | undefined
        // The tokens may be newer than the session: a parallel request that only renewed the idle time wrote it later.
        if (sealed?.id === session.id && sealed.revision >= revision) return sealed.tokens
      }
      return {}
    },

    write (header, session, tokens, age) {
      const chunks = sealTokens(session, tokens).map((chunk, index): Cookie => [tokensName + index, chunk])
      const cookies: Cookie[] = [[cookieName, sealSession(sealer, session)], ...chunks]
      const names = cookies.map(([name]) => name)
      return {
        session,
        setCookies: [...cookies.map(([name, value]) => setCookie(name, value, age)), ...removals(header, names)],
        bytes: checkSize(cookies, tokens)
      }
    },

    rewrite: (session, age) => setCookie(cookieName, sealSession(sealer, session), age),

    remove: (header) => removals(header, [])
  }
}

function sealSession (sealer: Sealer, session: Session): string {
  try {
    return sealer.seal('session', session)
  } catch (cause) {
    throw new OidcError('FST_OIDC_CLAIMS', {
      cause,
      detail: 'the claims, or what onClaims returned, cannot be written as JSON'
    })
  }
}

/** The size of all cookies in bytes. Throws FST_OIDC_SESSION_TOO_LARGE. */
function checkSize (cookies: Cookie[], tokens: SessionTokens): number {
  const bytes = cookies.reduce((sum, [name, value]) => sum + name.length + value.length + 3, 0)
  const [name, session] = cookies[0] as Cookie
  if (name.length + session.length + 1 + ATTRIBUTES_LENGTH > MAX_COOKIE) {
    throw tooLarge(
      `the claims and the user make a cookie of ${session.length} bytes, ${MAX_COOKIE} is the limit of browsers: ` +
      'keep fewer "claims", or return less from "onClaims"'
    )
  }
  if (bytes > SESSION_BUDGET) {
    const sizes = Object.entries(tokens)
      .filter(([name]) => name.endsWith('_token'))
      .map(([name, value]) => `${name} ${String(value).length}`)
    throw tooLarge(
      `its cookies would have ${bytes} bytes, ${SESSION_BUDGET} is the limit: ` +
      `keep fewer "session.tokens" (${sizes.join(', ')})`
    )
  }
  return bytes
}

function tooLarge (detail: string): OidcError {
  return new OidcError('FST_OIDC_SESSION_TOO_LARGE', { detail })
}

function split (value: string, size: number): string[] {
  const chunks = []
  for (let at = 0; at < value.length; at += size) chunks.push(value.slice(at, at + size))
  return chunks
}
