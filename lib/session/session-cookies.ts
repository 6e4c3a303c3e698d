import { OidcError } from '../errors.ts'
import {
  ATTRIBUTES_LENGTH, COOKIE_BUDGET, LOGIN_BUDGET, MAX_COOKIE, cookieNames, cookiesNamed, describeCookies, readCookie,
  totalBytes
} from '../http/cookies.ts'
import { createTokenCache, freeze } from '../util/token-cache.ts'
import { packTokens, unpackTokens } from './packed-tokens.ts'
import { selectTokens } from './session.ts'
import type { CookieSpace } from '../http/cookie-space.ts'
import type { SentCookie } from '../http/cookies.ts'
import type { Settings } from '../options/settings.ts'
import type { Sealer } from '../sealer.ts'
import type { PackedTokens, SealedTokens } from './packed-tokens.ts'
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
  /** The size of the cookies in a request, in bytes, without that of a user. */
  bytes: number
  /** Whether the ID token is not in the cookies, because they would be too large with it. */
  isWithoutIdToken: boolean
  /** All cookies of the host together, and the largest of them, when a proxy with its defaults may refuse them. */
  crowd: { bytes: number, cookies: string } | undefined
}

export interface SessionCookies {
  /** The session of a Cookie header: `undefined` when there is no cookie, `null` when no key opens it. */
  open: (header: string | undefined) => OpenedSession | null | undefined
  openTokens: (header: string | undefined, session: Session) => SessionTokens
  /**
   * The session and its tokens; `age` in seconds. A user in a cookie of its own stays there.
   * Throws FST_OIDC_SESSION_TOO_LARGE.
   */
  write: (header: string | undefined, session: Session, tokens: SessionTokens, age: number) => WrittenSession
  /** The session without its tokens. */
  rewrite: (header: string | undefined, session: Session, age: number) => string
  /** The user of a session, in a cookie of its own. */
  writeUser: (header: string | undefined, session: Session, age: number) => WrittenUser
  /**
   * Whether a user fits beside the other cookies of its session, which have `otherBytes`.
   * Throws FST_OIDC_SESSION_TOO_LARGE.
   */
  checkUser: (header: string | undefined, user: WrittenUser, otherBytes: number) => void
  /** Removes the cookie of a user that the request does not show. */
  forgetUser: (header: string | undefined) => string
  /** How many bytes of a request the cookies of the session have, without that of its user. */
  size: (header: string | undefined) => number
  remove: (header: string | undefined) => string[]
}

export interface WrittenUser {
  setCookie: string
  /** The size of the cookie in a request, in bytes. */
  bytes: number
}

/** The user that `updateUser` has given to a session. No other response writes it, so none brings the old one back. */
interface SealedUser {
  id: string
  user: Session['user']
}

type Cookie = [name: string, value: string]

/** What all selections of the tokens have in common. */
interface Sealing {
  session: Session
  sealed: string
  packed: PackedTokens
}

/** What stays of a Cookie header beside a new session. */
interface Room {
  /** How many bytes the session may have. */
  bytes: number
  /** The sessions of other registrations. */
  registrations: SentCookie[]
  /** The cookies of other processes and other software. */
  others: SentCookie[]
}

const MAX_OPENED = 4096
/** The most that fit into the budget. */
const MAX_CHUNKS = 3
/** The cookies of a session, in every registration. */
const OF_SESSION = /^(?!.*-(?:login-.*|silent|done|return)$)/
/**
 * The largest size of the Set-Cookie headers, in bytes, with which the head of a callback stays below 4,096
 * bytes. By default, nginx reads no more.
 */
const RESPONSE_BUDGET = 3300

export function createSessionCookies (
  { session: settings }: Pick<Settings, 'session'>,
  sealer: Sealer,
  space: Pick<CookieSpace, 'nameFor' | 'read'>
): SessionCookies {
  const { sameSite, tokens: tokenNames, inStore } = settings
  const { nameFor } = space
  const cache = createTokenCache<OpenedSession>(MAX_OPENED)
  const users = createTokenCache<SealedUser & { rotated: boolean }>(MAX_OPENED)

  function setCookie (name: string, value: string, maxAge: number): string {
    return sealer.setCookie(name, value, { maxAge, sameSite })
  }

  const isOf = (base: string, name: string): boolean =>
    name === base || name === userNameOf(base) || name.startsWith(tokensNameOf(base))

  function removals (header: string | undefined, base: string, kept: readonly string[]): string[] {
    const stale = cookieNames(header, base).filter((name) => isOf(base, name) && !kept.includes(name))
    return stale.map((name) => setCookie(name, '', 0))
  }

  /** What may stay of a Cookie header, and how many bytes that leaves for the session. */
  function roomIn (header: string | undefined, base: string): Room {
    const { own, others, budget } = space.read(header)
    const registrations = own.filter(({ name }) => OF_SESSION.test(name) && !isOf(base, name))
    return { bytes: budget - totalBytes(registrations), registrations, others }
  }

  function sealTokens (base: string, { session, packed }: Sealing, tokens: SessionTokens): string[] {
    if (tokenNames.size === 0 || inStore) return []
    const { session: { id }, revision } = session
    const bytes = packTokens({ id, revision, tokens: selectTokens(tokens, tokenNames) }, packed)
    const sealed = sealer.sealBytes('token-bytes', bytes)
    return split(sealed, MAX_COOKIE - tokensNameOf(base).length - 2 - ATTRIBUTES_LENGTH)
  }

  function cookiesOf (base: string, sealing: Sealing, tokens: SessionTokens): Cookie[] {
    const sealed = sealTokens(base, sealing, tokens)
    const chunks = sealed.map((chunk, index): Cookie => [tokensNameOf(base) + index, chunk])
    return [[base, sealing.sealed], ...chunks]
  }

  /** The cookies without the ID token, where that makes them fit. A logout works without it, a lost token does not. */
  function withoutIdToken (
    base: string,
    sealing: Sealing,
    tokens: SessionTokens,
    { all, budget }: { all: Cookie[], budget: number }
  ): Cookie[] | undefined {
    const { id_token: idToken, ...others } = tokens
    const canDrop = idToken !== undefined && tokenNames.has('id_token') && !inStore
    if (!canDrop || responseSize(all) <= RESPONSE_BUDGET) return undefined
    const smaller = cookiesOf(base, sealing, others)
    const helps = requestSize(all) > budget || responseSize(smaller) <= RESPONSE_BUDGET
    return helps ? smaller : undefined
  }

  function openSession (value: string): OpenedSession | null {
    const known = cache.get(value)
    if (known !== undefined) return known
    const opened = sealer.open('session', value)
    if (opened === null) return null
    const session = { session: freeze(opened.content as Session), rotated: opened.rotated }
    cache.add(value, session)
    return session
  }

  function openUser (value: string): SealedUser & { rotated: boolean } | undefined {
    const known = users.get(value)
    if (known !== undefined) return known
    const opened = sealer.open('user', value)
    if (opened === null) return undefined
    const user = { ...freeze(opened.content as SealedUser), rotated: opened.rotated }
    users.add(value, user)
    return user
  }

  return {
    open (header) {
      const base = nameFor(header)
      const value = readCookie(header, base)
      if (value === undefined) return undefined
      const opened = openSession(value)
      const userValue = readCookie(header, userNameOf(base))
      if (opened === null || userValue === undefined) return opened
      const own = openUser(userValue)
      if (own?.id !== opened.session.session.id) return opened
      const userBytes = requestSize([[userNameOf(base), userValue]])
      return {
        session: { ...opened.session, user: own.user, userBytes },
        rotated: opened.rotated || own.rotated
      }
    },

    openTokens (header, { session, revision }) {
      const tokensName = tokensNameOf(nameFor(header))
      const values = Array.from({ length: MAX_CHUNKS }, (_, index) => readCookie(header, tokensName + index))
      const chunks = values.slice(0, values.includes(undefined) ? values.indexOf(undefined) : MAX_CHUNKS)
      // If the responses of parallel requests arrive in another order, an old chunk may remain at the end.
      for (let count = chunks.length; count > 0; count--) {
        const sealed = unsealTokens(sealer, chunks.slice(0, count).join(''))
        // The tokens may be newer than the session: a parallel request that only renewed the idle time wrote it later.
        if (sealed?.id === session.id && sealed.revision >= revision) return sealed.tokens
      }
      return {}
    },

    write (header, session, tokens, age) {
      const { userBytes = 0 } = session
      const base = nameFor(header)
      const whole = roomIn(header, base)
      const room = { ...whole, bytes: whole.bytes - userBytes }
      const sealing: Sealing = { session, sealed: sealSession(sealer, session), packed: new Map() }
      const all = cookiesOf(base, sealing, tokens)
      const smaller = withoutIdToken(base, sealing, tokens, { all, budget: room.bytes })
      const cookies = smaller ?? all
      const names = cookies.map(([name]) => name)
      const kept = userBytes > 0 ? [...names, userNameOf(base)] : names
      checkSize(cookies, tokens, room)
      return {
        session,
        setCookies: [...cookies.map(([name, value]) => setCookie(name, value, age)), ...removals(header, base, kept)],
        bytes: requestSize(cookies),
        isWithoutIdToken: smaller !== undefined,
        crowd: crowdOf(cookies, room)
      }
    },

    rewrite: (header, session, age) => setCookie(nameFor(header), sealSession(sealer, session), age),

    writeUser (header, { session: { id }, user }, age) {
      const content: SealedUser = { id, user }
      const cookie: Cookie = [userNameOf(nameFor(header)), sealer.seal('user', content)]
      return { setCookie: setCookie(...cookie, age), bytes: requestSize([cookie]) }
    },

    checkUser (header, { bytes }, otherBytes) {
      const room = roomIn(header, nameFor(header)).bytes - otherBytes
      if (bytes + ATTRIBUTES_LENGTH <= MAX_COOKIE && bytes <= room) return
      throw tooLarge(
        `the user makes a cookie of ${bytes} bytes: ${MAX_COOKIE - ATTRIBUTES_LENGTH} is the limit of browsers, and ` +
        `the other cookies leave ${Math.max(room, 0)}: keep less in the user, or fewer "session.tokens"`
      )
    },

    forgetUser: (header) => setCookie(userNameOf(nameFor(header)), '', 0),

    size (header) {
      const base = nameFor(header)
      return totalBytes(cookiesNamed(header, base).filter(({ name }) => isOf(base, name) && name !== userNameOf(base)))
    },

    remove: (header) => removals(header, nameFor(header), [])
  }
}

function sealSession (sealer: Sealer, { userBytes, ...session }: Session): string {
  try {
    return sealer.seal('session', userBytes === undefined ? session : { ...session, user: null })
  } catch (cause) {
    throw new OidcError('FST_OIDC_CLAIMS', {
      cause,
      detail: 'the claims, or what onClaims returned, cannot be written as JSON',
      level: 'error'
    })
  }
}

function unsealTokens (sealer: Sealer, value: string): SealedTokens | undefined {
  const bytes = sealer.openBytes('token-bytes', value)
  // Version 0.1.0 sealed the tokens as JSON.
  return bytes === null ? sealer.open('tokens', value)?.content as SealedTokens | undefined : unpackTokens(bytes)
}

function tokensNameOf (base: string): string {
  return `${base}-tokens-`
}

function userNameOf (base: string): string {
  return `${base}-user-0`
}

/** The size of the cookies in a Cookie header, in bytes: `=` and `; ` come with each. */
function requestSize (cookies: Cookie[]): number {
  return sizeOf(cookies, 3)
}

/** The size of the Set-Cookie headers, in bytes. */
function responseSize (cookies: Cookie[]): number {
  return sizeOf(cookies, 1 + ATTRIBUTES_LENGTH)
}

function sizeOf (cookies: Cookie[], added: number): number {
  return cookies.reduce((sum, [name, value]) => sum + name.length + value.length + added, 0)
}

/** Throws FST_OIDC_SESSION_TOO_LARGE. */
function checkSize (cookies: Cookie[], tokens: SessionTokens, { bytes: limit, registrations, others }: Room): void {
  const bytes = requestSize(cookies)
  const [name, session] = cookies[0] as Cookie
  if (name.length + session.length + 1 + ATTRIBUTES_LENGTH > MAX_COOKIE) {
    throw tooLarge(
      `the claims and the user make a cookie of ${session.length} bytes, ${MAX_COOKIE} is the limit of browsers: ` +
      'keep fewer "claims", or return less from "onClaims"'
    )
  }
  if (bytes <= limit) return
  const sizes = Object.entries(tokens)
    .filter(([name]) => name.endsWith('_token'))
    .map(([name, value]) => `${name} ${String(value).length}`)
  throw tooLarge(
    `its cookies would have ${bytes} bytes, ${Math.max(limit, 0)} is the limit` +
    `${beside('other registrations', registrations)}${beside('other software', others)}: ` +
    `keep fewer "session.tokens" (${sizes.join(', ')})`,
    bytes <= COOKIE_BUDGET - LOGIN_BUDGET ? TOO_MANY_COOKIES : undefined
  )
}

const TOO_MANY_COOKIES = 'Your browser has too many cookies for this site. Delete some of them, then log in again.'

function beside (what: string, cookies: SentCookie[]): string {
  return cookies.length === 0 ? '' : ` beside ${totalBytes(cookies)} bytes of ${what} (${describeCookies(cookies)})`
}

/** What is more than a proxy takes by default, such as nginx, which has 8 KiB for one header. */
function crowdOf (cookies: Cookie[], { registrations, others }: Room): WrittenSession['crowd'] {
  const own = cookies.map(([name, value]) => ({ name, value, bytes: requestSize([[name, value]]) }))
  const all = [...own, ...registrations, ...others]
  const bytes = totalBytes(all)
  return bytes > COOKIE_BUDGET ? { bytes, cookies: describeCookies(all) } : undefined
}

function tooLarge (detail: string, message?: string): OidcError {
  return new OidcError('FST_OIDC_SESSION_TOO_LARGE', { detail, ...(message !== undefined && { message }) })
}

function split (value: string, size: number): string[] {
  const chunks = []
  for (let at = 0; at < value.length; at += size) chunks.push(value.slice(at, at + size))
  return chunks
}
