import { atMost } from './at-most.ts'

export interface TurnOptions {
  /** How many calls run at the same time. */
  running: number
  /** How many more wait for their turn. */
  waiting: number
  /** How long they wait, in seconds. */
  patience: number
  /** The error for a call that gets no turn. */
  refuse: () => Error
}

/** Runs a limited number of calls at the same time. Others wait for a while, in their order. */
export function createTurns (options: TurnOptions): <T>(call: () => Promise<T>) => Promise<T> {
  const waiting = new Set<() => void>()
  let running = 0

  async function waitForTurn (): Promise<void> {
    if (waiting.size >= options.waiting) throw options.refuse()
    let begin!: () => void
    const turn = new Promise<void>((resolve) => { begin = resolve })
    waiting.add(begin)
    await atMost(options.patience, () => turn, () => {
      waiting.delete(begin)
      return options.refuse()
    })
  }

  /** The turn goes to the call that waits longest. */
  function end (): void {
    const [next] = waiting
    if (next === undefined) {
      running -= 1
    } else {
      waiting.delete(next)
      next()
    }
  }

  return async (call) => {
    if (running < options.running) running += 1
    else await waitForTurn()
    return await call().finally(end)
  }
}
