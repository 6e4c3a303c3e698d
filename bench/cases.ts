import type { Case } from './requests.ts'
import type { Settings } from './settings.ts'

export type Letter = 'a' | 'b' | 'c' | 'd' | 'e' | 'h' | 'i' | 'j' | 'n' | 'o' | 'p' | 'q' | 'r' | 's' | 't'

/** A row of the bench that sends requests. */
export interface Row {
  letter: Letter
  title: string
  case: Case
  /** The row without the plugin that gets the same headers. */
  base: Letter
  /** The goals: at least this share of the requests per second of another row. */
  goals: Partial<Record<Letter, number>>
}

/** All rows that can be measured. `store` is the address of a Redis, for (h) to (j). */
export function allRows ({ steadySessions, crowd, sessions, tokens }: Settings, store: string | undefined): Row[] {
  const inCookies = { path: '/me', kind: 'cookies' } as const
  const inStore = { path: '/me', kind: 'store', sessions: steadySessions } as const
  const bearer = { path: '/me', kind: 'tokens' } as const
  const row = (letter: Letter, title: string, base: Letter, each: Case, goals: Row['goals'] = {}): Row => {
    return { letter, title: `${letter}  ${title}`, base, case: each, goals }
  }
  return [
    row('a', 'bare Fastify, only Host', 'b', { server: 'bare', path: '/', sessions: 0 }),
    row('b', 'bare Fastify, cookie ignored', 'b', { server: 'bare', path: '/', sessions: steadySessions }),
    row('c', 'plugin, public route', 'b', { server: 'plugin', path: '/', sessions: steadySessions }, { b: 0.97 }),
    row('d', `plugin, required(), ${steadySessions} clients`, 'b',
      { ...inCookies, server: 'plugin', sessions: steadySessions }, { b: 0.88, a: 0.70 }),
    row('e', 'plugin, required(), new clients', 'b', { ...inCookies, server: 'plugin', sessions }, { b: 0.55 }),
    row('t', `plugin, required(), ${crowd.toLocaleString('en')} clients in turn`, 'b',
      { ...inCookies, server: 'plugin', sessions: crowd }),
    ...(store === undefined
      ? []
      : [
          row('h', 'bare Fastify, cookie of (i) ignored', 'h', { ...inStore, server: 'bare', path: '/' }),
          row('i', 'plugin, required(), session in Redis', 'h',
            { ...inStore, server: 'plugin', options: { store } }, { h: 0.45 }),
          row('j', 'the same, recheckAfter 1 s', 'h',
            { ...inStore, server: 'plugin', options: { store, recheckAfter: 1 } }, { h: 0.80 })
        ]),
    row('n', 'bare Fastify, access token ignored', 'n', { ...bearer, server: 'bare', path: '/', sessions: steadySessions }),
    row('o', `plugin, required(), ${steadySessions} access tokens`, 'n',
      { ...bearer, server: 'plugin', sessions: steadySessions }, { n: 0.92 }),
    row('p', 'plugin, required(), new access tokens', 'n', { ...bearer, server: 'plugin', sessions: tokens }, { q: 1 / 1.3 }),
    row('q', 'jose.jwtVerify by hand, new access tokens', 'n', { ...bearer, server: 'by-jose', sessions: tokens }),
    row('r', `@fastify/jwt with its cache, ${steadySessions} access tokens`, 'n',
      { ...bearer, server: 'by-fastify-jwt', sessions: steadySessions }),
    row('s', `fastify-jwt-jwks, ${steadySessions} access tokens`, 'n',
      { ...bearer, server: 'by-fastify-jwt-jwks', sessions: steadySessions })
  ]
}

/** The rows with these letters, and those with which they are compared. Without letters, all. */
export function chosenRows (all: Row[], letters: string[] | undefined): Row[] {
  if (letters === undefined) return all
  const chosen = all.filter(({ letter }) => letters.includes(letter))
  const needed = new Set(chosen.flatMap(({ letter, base, goals }) => [letter, base, ...Object.keys(goals)]))
  return all.filter(({ letter }) => needed.has(letter))
}
