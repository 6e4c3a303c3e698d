import type { TransportFault } from '../provider/fault-effects.ts'
import type { Endpoint } from '../provider/options.ts'
import type { Fault } from '../provider/types.ts'

/** Faults of the network, which every endpoint can have. */
const wire = {
  hang: { hang: true },
  stall: { stall: true },
  drip: { drip: true },
  reset: { reset: true },
  cut: { cut: true },
  lost: { reset: true, after: true },
  400: { status: 400 },
  403: { status: 403 },
  429: { status: 429, headers: { 'retry-after': '7' } },
  500: { status: 500 },
  502: { status: 502, headers: { 'content-type': 'text/html' }, body: '<h1>Bad gateway</h1>' },
  503: { status: 503, headers: { 'retry-after': '7' } },
  redirect: { redirect: '/attacker' },
  'redirect-307': { redirect: '/attacker', status: 307 },
  'redirect-cloud': { redirect: 'http://169.254.169.254/latest/meta-data/' },
  html: { garbage: 'html' },
  empty: { garbage: 'empty' },
  truncated: { garbage: 'truncated' },
  array: { garbage: 'array' },
  null: { garbage: 'null' },
  number: { garbage: 'number' },
  string: { garbage: 'string' },
  'content-type': { garbage: 'content-type' },
  'no-content-type': { garbage: 'no-content-type' },
  'gzip-bomb': { garbage: 'gzip-bomb' },
  huge: { garbage: 'huge' },
  deep: { garbage: 'deep' },
  'duplicate-keys': { garbage: 'duplicate-keys' },
  bom: { garbage: 'bom' },
  'invalid-utf8': { garbage: 'invalid-utf8' }
} satisfies Record<string, TransportFault>

/** The endpoints that an application calls directly. */
const called = [
  'metadata', 'jwks', 'token', 'userinfo', 'revocation', 'introspection', 'device', 'par'
] as const satisfies Endpoint[]

type WireName = `${typeof called[number]}-${keyof typeof wire}`

export const wireFaults = Object.fromEntries(called.flatMap((on) =>
  Object.entries(wire).map(([name, fault]) => [`${on}-${name}`, { on, ...fault }]))) as Record<WireName, Fault>
