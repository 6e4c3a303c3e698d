/** What must never happen. */
export const NEVER = [
  'unexpected 5xx', 'lost logins', 'off-origin redirects', 'lost sessions', 'sessions after their logout',
  'sessions for attackers', 'users with the session of another user', 'callbacks used twice', 'unexpected answers',
  'cookies over 8,000 bytes', 'requests without an answer'
] as const

export type Never = typeof NEVER[number]

interface Wrong {
  count: number
  examples: string[]
}

/** Counts what happens, and keeps a few examples of what must never happen. */
export interface Ledger {
  count: (name: string, by?: number) => void
  get: (name: string) => number
  /** The counts whose names begin with `prefix`, the largest first. The prefix is removed. */
  startingWith: (prefix: string) => Array<[name: string, count: number]>
  wrong: (kind: Never, example: string) => void
  wrongs: ReadonlyMap<Never, Wrong>
  /** Resets the counts, but keeps what was wrong. */
  restart: () => void
}

const MAX_EXAMPLES = 5

export function createLedger (): Ledger {
  const counts = new Map<string, number>()
  const wrongs = new Map<Never, Wrong>()
  return {
    count (name, by = 1) {
      counts.set(name, (counts.get(name) ?? 0) + by)
    },
    get: (name) => counts.get(name) ?? 0,
    startingWith (prefix) {
      const found = [...counts]
        .filter(([name]) => name.startsWith(prefix))
        .map(([name, count]): [string, number] => [name.slice(prefix.length), count])
      return found.sort((a, b) => b[1] - a[1])
    },
    wrong (kind, example) {
      const { count = 0, examples = [] } = wrongs.get(kind) ?? {}
      wrongs.set(kind, {
        count: count + 1,
        examples: examples.length < MAX_EXAMPLES ? [...examples, example] : examples
      })
    },
    wrongs,
    restart: () => counts.clear()
  }
}
