import { createAdmission } from '../util/token-cache.ts'
import { createBoundedMap } from '../util/bounded-map.ts'
import { cookieNames, readCookie } from '../http/cookies.ts'
import { OidcError } from '../errors.ts'
import { freeze } from '../util/freeze.ts'
import { COOKIE_BUDGET } from '../http/cookies.ts'
import type { Settings } from '../options/settings.ts'
import type { Sealer } from '../sealer.ts'
import type { Session, SessionTokens } from './session.ts'

/** The cold part, in cookies of its own: opened only when somebody asks for it. */
interface SealedTokens {
  id: string
  revision: number
  tokens: SessionTokens
}

export interface OpenedSession {
  session: Session
  /** Whether an older key sealed it. */
  rotated: boolean
}

export interface WrittenSession {
  session: Session
  /** The Set-Cookie values, with the removal of what the request sent and nobody needs any more. */
  setCookies: string[]
  /** What the cookies take in a request, in bytes. */
  bytes: number
}

export interface SessionCookies {
  /** The session of a Cookie header: `undefined` when there is none, `null` when it cannot be opened. */
  open: (header: string | undefined) => OpenedSession | null | undefined
  openTokens: (header: string | undefined, session: Session) => SessionTokens
  /** Both parts; throws FST_OIDC_SESSION_TOO_LARGE. `age` in seconds. */
  write: (header: string | undefined, session: Session, tokens: SessionTokens, age: number) => WrittenSession
  /** The hot part alone. */
  rewrite: (session: Session, age: number) => string
  remove: (header: string | undefined) => string[]
}

type Cookie = [name: string, value: string]

const ALWAYS_KEPT: ReadonlySet<string> = new Set(['token_type', 'expires_at', 'scope', 'resource'])
const MAX_OPENED = 4096
const MAX_COOKIE = 4096
const ATTRIBUTES = 90 // Path, HttpOnly, Secure, SameSite and Max-Age count as well for some browsers
const MAX_CHUNKS = 3 // what the budget has room for
const NONCE = 32 // characters at the end of a sealed value: random, and so its shortest name
/** Leaves room for pending logins, in bytes. */
const SESSION_BUDGET = COOKIE_BUDGET - 1000

export function createSessionCookies (settings: Settings, sealer: Sealer): SessionCookies {
  const { cookieName, sameSite, tokens: keptTokens, inStore } = settings.session
  const tokensName = `${cookieName}-tokens-`
  const cache = createBoundedMap<OpenedSession & { value: string }>(MAX_OPENED)
  const isWorthIt = createAdmission(MAX_OPENED)

  function keep (header: string, session: OpenedSession): void {
    const value = detach(header)
    cache.set(value.slice(-NONCE), { ...session, value })
  }

  function setCookie (name: string, value: string, maxAge: number): string {
    return sealer.setCookie(name, value, { maxAge, sameSite })
  }

  function removals (header: string | undefined, kept: readonly string[]): string[] {
    const stale = cookieNames(header, cookieName).filter(
      (name) => (name === cookieName || name.startsWith(tokensName)) && !kept.includes(name)
    )
    return stale.map((name) => setCookie(name, '', 0))
  }

  function sealTokens (session: Session, tokens: SessionTokens): string[] {
    if (keptTokens.size === 0 || inStore) return []
    const content: SealedTokens = {
      id: session.session.id,
      revision: session.revision,
      tokens: keepTokens(tokens, keptTokens)
    }
    return split(sealer.seal('tokens', content), MAX_COOKIE - tokensName.length - 2 - ATTRIBUTES)
  }

  return {
    open (header) {
      const value = readCookie(header, cookieName)
      if (value === undefined) return undefined
      const key = value.slice(-NONCE)
      const known = cache.get(key)
      if (known?.value === value) return known
      const opened = sealer.open('session', value)
      if (opened === null) return null
      const session = { session: freeze(opened.content as Session), rotated: opened.rotated }
      if (isWorthIt(key, cache.size)) keep(value, session)
      return session
    },

    openTokens (header, { session, revision }) {
      const values = Array.from({ length: MAX_CHUNKS }, (_, index) => readCookie(header, tokensName + index))
      const known = values.slice(0, values.includes(undefined) ? values.indexOf(undefined) : MAX_CHUNKS)
      // A chunk too many is left over when the responses of parallel requests arrive out of order.
      for (let count = known.length; count > 0; count--) {
        const sealed = sealer.open('tokens', known.slice(0, count).join(''))?.content as SealedTokens | undefined
        // A parallel request that only touched the session may have written the hot part after the tokens
        // were replaced.
        if (sealed?.id === session.id && sealed.revision >= revision) return sealed.tokens
      }
      return {}
    },

    write (header, session, tokens, age) {
      const chunks = sealTokens(session, tokens)
      const cookies: Cookie[] = [
        [cookieName, sealSession(sealer, session)],
        ...chunks.map((chunk, index): Cookie => [tokensName + index, chunk])
      ]
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

/** As many of the tokens as are to be kept. */
export function keepTokens (tokens: SessionTokens, kept: ReadonlySet<string>): SessionTokens {
  return Object.fromEntries(Object.entries(tokens).filter(([name]) => ALWAYS_KEPT.has(name) || kept.has(name)))
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

function checkSize (cookies: Cookie[], tokens: SessionTokens): number {
  const bytes = cookies.reduce((sum, [name, value]) => sum + name.length + value.length + 3, 0)
  const [name, hot] = cookies[0] as Cookie
  if (name.length + hot.length + 1 + ATTRIBUTES > MAX_COOKIE) {
    throw tooLarge(
      `the claims and the user make a cookie of ${hot.length} bytes, ${MAX_COOKIE} is the limit of browsers: keep fewer "claims", or return less from "onClaims"`
    )
  }
  if (bytes > SESSION_BUDGET) {
    const sizes = Object.entries(tokens)
      .filter(([name]) => name.endsWith('_token'))
      .map(([name, value]) => `${name} ${String(value).length}`)
    throw tooLarge(
      `its cookies would have ${bytes} bytes, ${SESSION_BUDGET} is the limit: keep fewer "session.tokens" (${sizes.join(', ')})`
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

// A slice of the header would keep the whole header in memory.
function detach (value: string): string {
  return Buffer.from(value, 'latin1').toString('latin1')
}
