import { randomBytes } from 'node:crypto'
import { ORIGIN, SESSION_COOKIE } from './application.ts'
import { pick } from './pick.ts'
import { HOST, codeIn, isExplained, setsSession } from './world.ts'
import type { Entrance, Stolen } from './entrance.ts'
import type { ForgedLogins } from './forged.ts'
import type { Answer, Sent } from './remote.ts'
import type { World } from './world.ts'

/** A hostile request, and the statuses that it may get. */
interface Attack {
  sent: Sent
  accepted: number[]
}

type Attacker = (stolen: Stolen, forged: ForgedLogins) => Attack

const EVIL = 'https://evil.test'
const RETURN_TO = [
  EVIL,
  '//evil.test',
  '///evil.test',
  '/\\evil.test',
  '\\\\evil.test',
  '/.//evil.test',
  '/..//evil.test',
  '/%2e//evil.test',
  '/a/..//evil.test',
  'javascript:alert(1)',
  'data:text/html,x',
  'http:evil.test',
  `${ORIGIN}@evil.test/`,
  `${ORIGIN}.evil.test/`,
  'blob:http://app.localhost/x',
  '/\r\nset-cookie: a=b',
  '/\u0000',
  '/é😀',
  'x'.repeat(9000),
  '__proto__'
]
const ROUTES = ['/auth/login', '/auth/callback', '/auth/logout', '/auth/logged-out', '/auth/session', '/auth/userinfo']
const VALUES = [
  '',
  '%',
  '%00',
  '%FF',
  '%ED%A0%80',
  '+',
  '__proto__',
  'constructor',
  '0mwt0000000000000000000000000000',
  'a'.repeat(5000)
]
const LARGE = 'a'.repeat(10_240)
const PAGE = {
  accept: 'text/html',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'sec-fetch-site': 'cross-site'
}
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }

/** Sends one attack after the other. */
export async function simulateAttackers (world: World, forged: ForgedLogins): Promise<void> {
  while (!world.isOver()) {
    const entrance = pick(world.entrances)
    const attack = pick(ATTACKERS)(pick(entrance.stolen) ?? { cookie: '', callback: '/auth/callback' }, forged)
    if (Math.random() < 0.02) await pick(entrance.processes).abandon(attack.sent, Math.random() * 5)
    else await strike(world, entrance, attack)
  }
}

async function strike ({ ledger, timeline }: World, { send }: Entrance, { sent, accepted }: Attack): Promise<void> {
  const from = Date.now()
  ledger.count('hostile requests')
  const line = `${sent.method} ${sent.url.slice(0, 100)}`
  const answer = await send(sent).catch((error: Error) => error)
  const isAnswered = !(answer instanceof Error)
  ledger.check('requests without an answer', isAnswered, () => `${line}: ${(answer as Error).message}`)
  if (!isAnswered) return
  ledger.check('sessions for attackers', !setsSession(answer.headers['set-cookie'] ?? []), () => line)
  const { statusCode, rawPayload } = answer
  const isRight = accepted.includes(statusCode) ||
    isExplained(timeline, statusCode, codeIn(rawPayload.toString()), from)
  ledger.check('unexpected answers', isRight, () => `${line} ${outcome(answer)}, not ${accepted.join(' or ')}`)
}

function outcome ({ statusCode, rawPayload }: Answer): string {
  return `${statusCode} ${codeIn(rawPayload.toString()) ?? ''}`
}

function get (url: string, headers: Record<string, string> = {}, accepted: number[] = [400]): Attack {
  return { sent: { method: 'GET', url, headers: { host: HOST, ...headers } }, accepted }
}

function post (url: string, payload: string, headers: Record<string, string>, accepted: number[]): Attack {
  return { sent: { method: 'POST', url, payload, headers: { host: HOST, ...FORM, ...headers } }, accepted }
}

function withCookie (cookie: string): Record<string, string> {
  return cookie === '' ? {} : { cookie }
}

/** The cookies with one changed character. */
function tampered (cookie: string): string {
  const at = cookie.lastIndexOf('=', Math.floor(Math.random() * cookie.length)) + 1 + Math.floor(Math.random() * 100)
  return cookie.slice(0, at) + (cookie[at] === 'A' ? 'B' : 'A') + cookie.slice(at + 1)
}

function garbage (bytes: number): string {
  return randomBytes(bytes).toString('base64')
}

const ATTACKERS: Attacker[] = [
  function garbageCookies () {
    const values = [
      garbage(300),
      `${garbage(300)}.${garbage(24)}`,
      `${garbage(7000)}.${garbage(24)}`,
      '.',
      '=',
      '%00',
      `${'A'.repeat(9000)}`
    ]
    return get(
      '/me',
      {
        cookie: `${SESSION_COOKIE}=${pick(values)}; ${SESSION_COOKIE}-tokens-0=${garbage(500)}; ${SESSION_COOKIE}-tokens-99999999=x`
      },
      [401]
    )
  },
  function manyCookies () {
    return get(
      pick(['/auth/login', '/maybe']),
      { cookie: Array.from({ length: 400 }, (_, index) => `${SESSION_COOKIE}-login-${index}=x`).join('; ') },
      [200, 302]
    )
  },
  function tamperedLogin ({ cookie, callback }) {
    return get(callback, { ...PAGE, ...withCookie(tampered(cookie)) }, [302, 400])
  },
  function callbackWithoutCookies ({ callback }) {
    return get(callback, PAGE)
  },
  function repeatedCallback ({ cookie, callback }) {
    return get(callback, { ...PAGE, ...withCookie(cookie) }, [302, 400])
  },
  function lateCallback (_, forged) {
    const { cookie, state } = forged.late()
    return get(`/auth/callback?state=${state}&code=${garbage(9).replace(/\W/g, '')}`, { ...PAGE, cookie }, [302])
  },
  function lateCallbackAgain (_, forged) {
    const { cookie, state } = forged.restarted()
    return get(`/auth/callback?state=${state}&code=x`, { ...PAGE, cookie })
  },
  function unknownState () {
    return get(`/auth/callback?state=${garbage(24).replace(/\W/g, '')}&code=x`, PAGE)
  },
  function strangeParameters () {
    // Node.js refuses 16 kB and closes the connection.
    const [a, b] = [pick([...VALUES, LARGE]), pick(VALUES)]
    return get(
      `/auth/callback?${pick(['state', 'state[]', '__proto__', 'iss'])}=${a}&${pick(['code', 'error', 'state'])}=${b}`,
      PAGE
    )
  },
  function strangeReturn () {
    return get(`/auth/login?return_to=${encodeURIComponent(pick(RETURN_TO))}`, PAGE, [302, 400])
  },
  function strangePage () {
    return get(
      pick(['//evil.test/me', '/me/..//evil.test', '/.//evil.test/', `/me?return_to=${'y'.repeat(8000)}`]),
      PAGE,
      [302, 404]
    )
  },
  function crossSiteLogout ({ cookie }) {
    return post(
      '/auth/logout',
      'return_to=/',
      { origin: EVIL, 'sec-fetch-site': 'cross-site', ...withCookie(cookie) },
      [403]
    )
  },
  function crossSiteLink ({ cookie }) {
    return get('/auth/logout', { ...PAGE, ...withCookie(cookie) }, [403])
  },
  function crossSiteSave ({ cookie }) {
    return post('/me', 'a=b', { origin: EVIL, 'sec-fetch-site': 'cross-site', ...withCookie(cookie) }, [401, 403, 415])
  },
  function largeForm () {
    return post('/auth/logout', `return_to=${'z'.repeat(70_000)}`, { origin: ORIGIN }, [413])
  },
  function noForm () {
    return post(
      '/auth/logout',
      '{"a":1}',
      {
        'content-type': pick(['application/json', 'text/plain', 'multipart/form-data; boundary=x', 'x']),
        origin: ORIGIN
      },
      [400, 415]
    )
  },
  function wrongMethod ({ cookie, callback }) {
    const method = pick(['HEAD', 'PUT', 'DELETE', 'PATCH', 'TRACE'])
    return {
      sent: { method, url: pick([...ROUTES, callback]), headers: { host: HOST, ...withCookie(cookie) } },
      accepted: [405]
    }
  },
  function prefetch ({ cookie, callback }) {
    return get(callback, { ...PAGE, 'sec-purpose': 'prefetch', ...withCookie(cookie) }, [503])
  },
  function strangeLogoutState () {
    return get(`/auth/logged-out?state=${encodeURIComponent(garbage(60))}`, PAGE, [302])
  },
  function framedLogin () {
    return get('/auth/login', { ...PAGE, 'sec-fetch-dest': 'iframe' })
  }
]
