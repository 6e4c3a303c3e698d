/** What must never happen. */
export const NEVER = [
  'users with the session of another user', 'tenant crossings', 'sessions after their logout', 'sessions for attackers',
  'callbacks used twice', 'refresh tokens used twice', 'grants after their end', 'forged tokens accepted',
  'anonymous instead of 503', 'lost logins', 'lost sessions', 'good tokens refused', 'off-origin redirects',
  'unexpected 5xx', 'unexpected answers', 'requests without an answer', 'cookies over 8,000 bytes',
  'faults without a recovery'
] as const

export type Never = typeof NEVER[number]

interface Checked {
  times: number
  wrong: number
  examples: string[]
}

/** Counts what happens and what was checked, and keeps a few examples of what must never happen. */
export interface Ledger {
  count: (name: string, by?: number) => void
  get: (name: string) => number
  /** The counts whose names begin with `prefix`, the largest first. The prefix is removed. */
  startingWith: (prefix: string) => Array<[name: string, count: number]>
  /** Notes that something was checked, and what was wrong. Returns `isRight`. */
  check: (kind: Never, isRight: boolean, example: () => string) => boolean
  checked: (kind: Never) => Readonly<Checked>
  isBroken: () => boolean
  /** Resets the counts, but keeps what was checked. */
  restart: () => void
}

const MAX_EXAMPLES = 5

export function createLedger (): Ledger {
  const counts = new Map<string, number>()
  const checks = new Map<Never, Checked>(NEVER.map((kind) => [kind, { times: 0, wrong: 0, examples: [] }]))
  const checked = (kind: Never): Checked => checks.get(kind) as Checked

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
    check (kind, isRight, example) {
      const entry = checked(kind)
      entry.times += 1
      if (isRight) return true
      entry.wrong += 1
      if (entry.examples.length < MAX_EXAMPLES) entry.examples.push(example())
      return false
    },
    checked,
    isBroken: () => [...checks.values()].some(({ wrong }) => wrong > 0),
    restart: () => counts.clear()
  }
}
