import { randomInt } from 'node:crypto'
import { OidcError } from '../errors.ts'
import {
  ATTRIBUTES_LENGTH, LOGIN_BUDGET, MAX_COOKIE, addSetCookie, readCookie, totalBytes
} from '../http/cookies.ts'
import { isReserved } from '../http/cookie-space.ts'
import { describeAhead, hasBegun, now } from '../util/time.ts'
import { createFormerLogins } from './former-logins.ts'
import { DONE_LENGTH } from './guarded-logins.ts'
import { MARK_LENGTH, createLoginMarks } from './login-marks.ts'
import {
  ID_LENGTH, LIFETIME, areOfOneBrowser, idOf, newLoginId, packTrace, startOf, traceOf, unpackTrace
} from './pending-login.ts'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import type { CookieShares, CookieSpace } from '../http/cookie-space.ts'
import type { Settings } from '../options/settings.ts'
import type { Provider } from '../provider/provider.ts'
import type { CookieAttributes, Sealer } from '../sealer.ts'
import type { Seen } from '../store/seen.ts'
import type { Mark } from './login-marks.ts'
import type { AppState, LoginTrace, PackedState, PendingLogin } from './pending-login.ts'

/**
 * What a callback finds:
 * - `fresh`: the login, which this call has taken.
 * - `over`: this browser began the login, but it is too old, was taken before, or a parallel login has its slot.
 * - `unknown`: this browser did not begin the login, as far as its cookies tell.
 *
 * `reason` is for the log. `owesAppState`: `onClaims` has not got the `appState` of the login; only the first callback
 * is told so. `isTooOld`: the browser no longer keeps the cookie of the login.
 */
export type TakenLogin =
  { status: 'fresh', login: PendingLogin } |
  { status: 'over', reason: string, owesAppState: boolean } & LoginTrace |
  UnknownLogin

interface UnknownLogin {
  status: 'unknown'
  reason: string
  isTooOld?: boolean
}

/** A login that begins. */
export type NewLogin = Omit<PendingLogin, 'state' | 'nonce' | 'codeVerifier' | 'startedAt'>

/** A login that has begun, before its cookies are set. */
export interface BegunLogin extends PendingLogin {
  /** The slot of its cookie. */
  slot: string
}

export interface PendingLogins {
  /** Makes the values of a login. */
  begin: (request: FastifyRequest, login: NewLogin) => BegunLogin
  /** Sets the cookies of a login. */
  save: (request: FastifyRequest, reply: FastifyReply, provider: Provider, login: BegunLogin) => void
  /**
   * Takes the login of a state, once: the second caller gets `over`, whatever cookie it sends.
   * Throws FST_OIDC_RESPONSE_ISSUER when the login began with another provider, and FST_OIDC_STATE when it has an
   * `appState` and nothing proves that this browser began it.
   */
  take: (request: FastifyRequest, reply: FastifyReply, provider: Provider, state: string) => Promise<TakenLogin>
  /** Marks the browser, so that `isOfBrowser` recognizes it later. Returns an identifier, for a link. */
  mark: (request: FastifyRequest, reply: FastifyReply) => string
  /** Whether this browser got the identifier, or began the login with it, as far as its cookies tell. */
  isOfBrowser: (request: FastifyRequest, id: string) => boolean
  /** The page of the only silent login of a provider that waits in this browser. It goes on waiting. */
  pageOfSilent: (request: FastifyRequest, provider: Provider) => string | undefined
  /** Makes room beside a session whose cookies have this size, in bytes. */
  fit: (request: FastifyRequest, reply: FastifyReply, sessionBytes: number) => void
  /** Removes all logins of the browser. */
  clear: (request: FastifyRequest, reply: FastifyReply) => void
}

const USED = 'it was used before'

/** How long the browser keeps the cookie, in seconds: a late callback still leads to its page. */
const COOKIE_LIFETIME = 7200
/** How many cookies one response removes. The plugin never sets that many: the others do not come from it. */
const MAX_REMOVED = 40
const SLOTS = '0123456789ab'
/**
 * How many characters a `state` has for an address and an `appState`: some providers refuse a `state` of more than 500.
 */
const MAX_IN_STATE = 200
/** The largest `appState`, in bytes of JSON. */
export const MAX_APP_STATE = 128
/** What `=` and `; ` add to a cookie in the header, in bytes. */
const SEPARATORS = 3
/** The rank of a slot after those of all logins. */
const LAST = Number.MAX_VALUE

/** An address that does not fit into the `state`, or that of a silent login, whose answer may have no `state`. */
interface PackedAddress {
  s: string
  r: string
  /** The provider. */
  p?: string
}

export interface PendingLoginsParts {
  sealer: Sealer
  /** Which logins were taken. */
  taken: Seen
  space: CookieSpace
}

/**
 * A login is sealed into its `state`, and a short cookie proves that this browser began it. The cookies have a fixed
 * number of names and sizes: tabs that log in at the same moment do not know each other, and yet their cookies fit.
 */
export function createPendingLogins (
  settings: Pick<Settings, 'session' | 'origin' | 'defaultReturnTo'>,
  { sealer, taken, space }: PendingLoginsParts
): PendingLogins {
  const { session: { cookieName, sameSite }, origin, defaultReturnTo } = settings
  const marks = createLoginMarks(sealer)
  const former = createFormerLogins(settings, sealer)
  const addressName = `${cookieName}-return`
  const nameOf = (slot: string): string => `${cookieName}-login-${slot}`
  // Each process begins elsewhere: tabs whose logins begin in several processes rarely get the same slot.
  let turn = randomInt(SLOTS.length)
  /** The size of the largest session so far, in bytes. */
  let largestSession = 0

  function set (reply: FastifyReply, name: string, value: string, attributes: CookieAttributes): void {
    addSetCookie(reply, sealer.setCookie(name, value, attributes))
  }

  function remove (reply: FastifyReply, names: string[]): void {
    for (const name of names.slice(0, MAX_REMOVED)) set(reply, name, '', { maxAge: 0, sameSite: 'lax' })
  }

  /** The slots of this registration: its share of the budget, beside the cookies of silent and of guarded logins. */
  function slots (): string[] {
    const others = `${cookieName}-silent=1; ${cookieName}-done=`.length + DONE_LENGTH
    const room = Math.floor(LOGIN_BUDGET / space.sharers) - others
    const count = Math.floor(room / (nameOf('0').length + MARK_LENGTH + SEPARATORS))
    return [...SLOTS.slice(0, Math.max(count, 1))]
  }

  /** What the browser shows of its logins. */
  function marksIn (header: string | undefined): Array<Mark & { slot: string }> {
    return slots().flatMap((slot) => {
      const value = readCookie(header, nameOf(slot))
      const mark = value === undefined ? null : marks.open(slot, value)
      return mark === null ? [] : [{ ...mark, slot }]
    })
  }

  /**
   * An identifier for a slot. It tells the browser as the one that it replaces did, so that a login whose slot was
   * taken still has its proof.
   */
  function newIdFor (slot: string, header: string | undefined): string {
    const known = marksIn(header)
    return newLoginId((known.find((mark) => mark.slot === slot) ?? known[0])?.id)
  }

  function isOfBrowser (header: string | undefined, id: string): boolean {
    return marksIn(header).some((mark) => areOfOneBrowser(mark.id, id))
  }

  /** A free slot while there is room, else one of a used login, else the one of the oldest login. */
  function chooseSlot (header: string | undefined): string {
    const all = slots()
    const start = turn++ % all.length
    const { isFull } = space.read(header)
    const ranks = new Map(all.map((slot) => [slot, rankOf(header, slot, isFull)]))
    const inTurn = [...all.slice(start), ...all.slice(0, start)]
    return inTurn.sort((a, b) => (ranks.get(a) as number) - (ranks.get(b) as number))[0] as string
  }

  function rankOf (header: string | undefined, slot: string, isFull: boolean): number {
    const value = readCookie(header, nameOf(slot))
    if (value === undefined) return isFull ? LAST : 0
    const mark = marks.open(slot, value)
    if (mark === null) return 2 // of another application with the same name, or of a key that is gone
    return mark.isUsed || isTooOld(startOf(mark.id)) ? 1 : startOf(mark.id)
  }

  /** The address, as far as it fits into a `state`: without its query, if it is long. */
  function shorten ({ returnTo, appState }: Pick<PendingLogin, 'returnTo' | 'appState'>): string {
    const relative = returnTo.slice(origin.length)
    const path = relative.split(/[?#]/, 1)[0] as string
    const room = MAX_IN_STATE - sizeOf(appState)
    const short = [relative, path].find(({ length }) => length <= room)
    return short === undefined ? defaultReturnTo : origin + short
  }

  function isShort (login: Pick<PendingLogin, 'returnTo' | 'appState'>): boolean {
    return shorten(login) === login.returnTo
  }

  function readState (state: string): PackedState | undefined {
    const sealed = fromUrlText(state.slice(ID_LENGTH))
    const packed = sealer.open('login', sealed)?.content as PackedState | undefined
    const isExact = packed?.s !== undefined && state === packed.s + toUrlText(sealed)
    return isExact && packed.c !== undefined ? packed : undefined
  }

  function readAddress (header: string | undefined): PackedAddress | undefined {
    const value = readCookie(header, addressName)
    return value === undefined ? undefined : sealer.open('login', value)?.content as PackedAddress | undefined
  }

  /** How many bytes of the budget the cookies leave for an address, beside those of logins. */
  function roomBeside ({ own, budget }: CookieShares, ignored: (name: string) => boolean): number {
    return budget - totalBytes(own.filter(({ name }) => !isReserved(name) && !ignored(name)))
  }

  /** The Cookie header is complete: no cookie of the session was held back (RFC 6265bis, section 5.2). */
  function sendsAllCookies ({ method, headers }: FastifyRequest): boolean {
    const site = headers['sec-fetch-site']
    return method === 'GET' && (sameSite !== 'strict' || (site !== undefined && site !== 'cross-site'))
  }

  /** Whether another login of this browser waits: at any moment, it may bring a session. */
  function waitsElsewhere (header: string | undefined, { slot: newSlot }: BegunLogin): boolean {
    return marksIn(header).some(({ slot, id, isUsed }) => slot !== newSlot && !isUsed && !isTooOld(startOf(id)))
  }

  /** How many bytes an address may have. */
  function roomForAddress (request: FastifyRequest, login: BegunLogin, shares: CookieShares): number {
    if (!sendsAllCookies(request)) return 0
    const { budget } = shares
    const share = Math.floor(budget / space.sharers)
    const room = Math.min(share, roomBeside(shares, (name) => name === addressName))
    return waitsElsewhere(request.headers.cookie, login) ? Math.min(room, budget - largestSession) : room
  }

  /** Keeps an address that is too long for the `state`, where there is room. Returns the size of its cookie. */
  function saveAddress (
    request: FastifyRequest,
    reply: FastifyReply,
    provider: Provider,
    login: BegunLogin,
    shares: CookieShares
  ): number {
    const content: PackedAddress = { s: idOf(login.state), r: login.returnTo.slice(origin.length), p: provider.id }
    const value = sealer.seal('login', content)
    const size = addressName.length + value.length + SEPARATORS
    const room = roomForAddress(request, login, shares)
    if (size <= room && size + ATTRIBUTES_LENGTH <= MAX_COOKIE) {
      set(reply, addressName, value, { maxAge: COOKIE_LIFETIME, sameSite: sameSiteOf(provider) })
      return size
    }
    if (isShort(login)) return 0
    const { length } = content.r
    request.log.info(
      { length, bytes: size, room },
      'the login leads to a shorter address: the whole address does not fit into the cookies'
    )
    return 0
  }

  interface Found {
    login: PendingLogin | LoginTrace
    /** Why the login is over, if it does not wait. */
    reason: string
    isUsed: boolean
    /** Sets the cookie of a used login. */
    markUsed: (reply: FastifyReply, attributes: CookieAttributes) => void
  }

  function unknown (reason: string, isTooOld = false): UnknownLogin {
    return { status: 'unknown', reason, isTooOld }
  }

  function findFormer (header: string | undefined, state: string): Found | UnknownLogin {
    const found = former.find(header, state)
    if (found === null) return unknown('the state is none of this application, or no cookie of its login came')
    const { name, login } = found
    return {
      login,
      reason: USED,
      isUsed: true,
      markUsed: (reply, attributes) => set(reply, name, former.used(traceOf(login)), attributes)
    }
  }

  function find (header: string | undefined, state: string): Found | UnknownLogin {
    if (state.length <= ID_LENGTH) return findFormer(header, state)
    const packed = readState(state)
    if (packed === undefined) return unknown('no key opens the state')
    const { s: id, c: slot, b: before } = packed
    const value = readCookie(header, nameOf(slot))
    const age = now() - startOf(id)
    if (value === undefined && age >= COOKIE_LIFETIME) return unknown(`it began ${age} s ago`, true)
    if (value === undefined) return unknown('no cookie of the login came')
    const mark = marks.open(slot, value)
    if (mark === null) return unknown('no key opens the cookie of the login')
    const address = readAddress(header)
    const r = address?.s === id ? address.r : packed.r
    const trace = { ...unpackTrace({ ...packed, r }, origin), state }
    const isOverwritten = mark.id !== id
    if (isOverwritten && trace.appState !== undefined && !isOfBrowser(header, id)) throw notOfBrowser()
    const isWaiting = !isOverwritten && !mark.isUsed
    return {
      reason: isOverwritten ? 'a later login has taken its place' : USED,
      isUsed: !isOverwritten && mark.isUsed,
      login: isWaiting ? { ...trace, ...mark.secrets, before, startedAt: startOf(id) } : trace,
      markUsed (reply, attributes) {
        set(reply, nameOf(slot), marks.used(slot, id), attributes)
        if (address?.s === id) remove(reply, [addressName])
      }
    }
  }

  return {
    begin (request, login) {
      const { cookie } = request.headers
      const slot = chooseSlot(cookie)
      const id = newIdFor(slot, cookie)
      const packed: PackedState = {
        ...packTrace({ ...login, state: id, returnTo: shorten(login) }, origin),
        c: slot,
        ...(login.before !== undefined && { b: login.before })
      }
      const state = id + toUrlText(sealer.seal('login', packed))
      return { ...login, ...marks.secrets(id), state, startedAt: startOf(id), slot }
    },

    save (request, reply, provider, login) {
      const { slot, state, silent } = login
      const attributes = { maxAge: COOKIE_LIFETIME, sameSite: sameSiteOf(provider) }
      set(reply, nameOf(slot), marks.waiting(slot, idOf(state), silent), attributes)
      const { cookie } = request.headers
      const shares = space.read(cookie)
      const added = isShort(login) && !silent ? 0 : saveAddress(request, reply, provider, login, shares)
      remove(reply, former.excess(cookie, roomBeside(shares, (name) => name.includes('-login-')) - added))
    },

    async take (request, reply, provider, state) {
      const found = find(request.headers.cookie, state)
      if ('status' in found) return found
      const { login, markUsed } = found
      // A mix-up (RFC 9700, section 4.4): the code of one provider must not reach another.
      if (login.provider !== provider.id) {
        throw new OidcError('FST_OIDC_RESPONSE_ISSUER', { detail: 'the login began with another provider' })
      }
      const claim = async (expiresAt: number): Promise<boolean> => await taken.claim(['login', idOf(state)], expiresAt)
      const over = (reason: string, owesAppState: boolean): TakenLogin =>
        ({ status: 'over', reason, owesAppState, ...traceOf(login) })
      if (!('nonce' in login) || isTooOld(login.startedAt) || !hasBegun(login.startedAt)) {
        const reason = 'nonce' in login ? explainTime(login.startedAt, request.log) : found.reason
        const hasWaited = login.appState !== undefined && !found.isUsed
        return over(reason, hasWaited && await claim(now() + COOKIE_LIFETIME))
      }
      if (!await claim(login.startedAt + LIFETIME + 1)) return over(USED, false)
      markUsed(reply, { maxAge: LIFETIME, sameSite: sameSiteOf(provider) })
      return { status: 'fresh', login }
    },

    mark (request, reply) {
      const { cookie } = request.headers
      const slot = chooseSlot(cookie)
      const id = newIdFor(slot, cookie)
      // As that of a used login: it does not wait for anything, and a login may take its place.
      set(reply, nameOf(slot), marks.used(slot, id), { maxAge: COOKIE_LIFETIME, sameSite: 'lax' })
      return id
    },

    isOfBrowser: (request, id) => isOfBrowser(request.headers.cookie, id),

    pageOfSilent ({ headers: { cookie } }, provider) {
      const silent = marksIn(cookie).filter(({ isSilent, id }) => isSilent && !isTooOld(startOf(id)))
      const address = readAddress(cookie)
      const isOfOnly = silent.length === 1 && address?.s === silent[0]?.id && address?.p === provider.id
      return isOfOnly ? origin + address.r : undefined
    },

    fit (request, reply, sessionBytes) {
      const { cookie } = request.headers
      const name = space.nameFor(cookie)
      const isOfSession = (other: string): boolean =>
        other === name || [`${name}-tokens-`, `${name}-user-`].some((prefix) => other.startsWith(prefix))
      const shares = space.read(cookie)
      // What the header has of this session is replaced.
      const room = roomBeside(shares, (other) => isOfSession(other) || other.includes('-login-')) - sessionBytes
      const grows = sessionBytes > totalBytes(shares.own.filter((own) => isOfSession(own.name)))
      const isShown = readCookie(cookie, addressName) !== undefined
      // A parallel login may have set an address that the header does not show.
      const removesAddress = isShown ? room < 0 : grows && room < MAX_COOKIE
      if (removesAddress) remove(reply, [addressName])
      largestSession = Math.max(largestSession, sessionBytes)
      remove(reply, former.excess(cookie, room))
    },

    clear (request, reply) {
      const { cookie } = request.headers
      const own = marksIn(cookie).map(({ slot }) => nameOf(slot))
      const address = readAddress(cookie) === undefined ? [] : [addressName]
      remove(reply, [...own, ...address, ...former.names(cookie)])
    }
  }
}

/** What an `appState` adds to the JSON of a `state`, in bytes. */
function sizeOf (appState: AppState | undefined): number {
  return appState === undefined ? 0 : Buffer.byteLength(`,"d":${JSON.stringify(appState.value)}`)
}

function notOfBrowser (): OidcError {
  const detail = 'a later login has taken its place, and its "appState" is only for the browser that began it'
  return new OidcError('FST_OIDC_STATE', { detail })
}

// Providers must return a `state` unchanged. Some do not when it has characters that URLs encode.
function toUrlText (sealed: string): string {
  return sealed.replace(/=+(?=\.)/, '').replaceAll('+', '-').replaceAll('/', '_')
}

function fromUrlText (text: string): string {
  const [cipher = '', nonce] = text.split('.')
  const padding = '='.repeat((4 - cipher.length % 4) % 4)
  return `${cipher}${padding}.${nonce}`.replaceAll('-', '+').replaceAll('_', '/')
}

// With form_post, the browser posts a form from the provider's site to the callback.
function sameSiteOf ({ settings }: Provider): CookieAttributes['sameSite'] {
  return settings.responseMode === 'form_post' ? 'none' : 'lax'
}

function isTooOld (startedAt: number): boolean {
  return startedAt + LIFETIME <= now()
}

/** Why a login that began at this time does not count. The clocks of an operator are worth a warning. */
function explainTime (startedAt: number, log: FastifyBaseLogger): string {
  if (hasBegun(startedAt)) return `it began ${now() - startedAt} s ago`
  const detail = `it began at ${describeAhead(startedAt)}`
  log.warn({ detail }, 'a login from the future does not count, and its cookie stays')
  return detail
}
