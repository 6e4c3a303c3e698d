/** What a user got: it is right, the user may try again later, or it must never happen. */
export interface Got {
  verdict: 'good' | 'unavailable' | 'wrong'
  /** In a few words: the status. */
  shown: string
}

export interface Noted extends Got {
  /** Who asked. */
  stream: string
  /** What for. */
  what: string
  /** In milliseconds, by `performance.now()`. */
  sentAt: number
  answeredAt: number
}

/** What all users got, and when. */
export interface Ledger {
  note: (noted: Noted) => void
  /** This stream asks no more. */
  finish: (stream: string) => void
  /** The answers to requests that were sent between the two. */
  between: (from: number, to: number) => Noted[]
  /** When each stream was good again, for requests after `since`; `undefined` as long as that is not certain. */
  goodAgainAt: (since: number) => number | undefined
}

/** `settled`: for how long no request may fail until all is good again, in milliseconds. */
export function createLedger (settled: number): Ledger {
  const all: Noted[] = []
  const active = new Set<string>()

  const between: Ledger['between'] = (from, to) => all.filter(({ sentAt }) => sentAt >= from && sentAt < to)

  return {
    note (noted) {
      all.push(noted)
      active.add(noted.stream)
    },
    finish: (stream) => { active.delete(stream) },
    between,

    goodAgainAt (since) {
      const now = performance.now()
      const answers = between(since, now)
      const isSettled = now - since >= settled &&
        answers.every(({ verdict, sentAt }) => verdict === 'good' || sentAt < now - settled)
      const streams = new Set([...active, ...answers.map(({ stream }) => stream)])
      const times = [...streams].map((name) => firstGood(answers.filter(({ stream }) => stream === name)))
      return isSettled && !times.includes(undefined) ? Math.max(...times as number[]) : undefined
    }
  }
}

/** When the first good answer came to a request after which none failed. */
function firstGood (answers: readonly Noted[]): number | undefined {
  const lastBad = Math.max(...answers.filter(({ verdict }) => verdict !== 'good').map(({ sentAt }) => sentAt))
  const good = answers.filter(({ sentAt }) => sentAt > lastBad).map(({ answeredAt }) => answeredAt)
  return good.length === 0 ? undefined : Math.min(...good)
}
