/** A function of the application that has not ended in time. The status is that of an outage. */
export class LateError extends Error {
  readonly statusCode = 503
}

/**
 * Waits for some work, at most this many seconds. Then it throws what `late` returns, and whatever the work still does,
 * its result does not count.
 */
export async function atMost<T> (seconds: number, work: () => T | Promise<T>, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const tooLate = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(late()), seconds * 1000)
  })
  // Within an async function, work that throws at once also becomes a rejection.
  const result = async (): Promise<T> => await work()
  return await Promise.race([result(), tooLate]).finally(() => clearTimeout(timer))
}

/**
 * A function of the application that may take at most this many seconds, as the option of that name says. A result that
 * is no promise is returned at once.
 */
export function limited<F extends (...args: never[]) => unknown> (call: F, seconds: number, option: string): F {
  const late = (): Error => new LateError(`it has not ended within ${seconds} s, as "${option}" demands`)
  return ((...args: never[]) => {
    const result = call(...args)
    return isThenable(result) ? atMost(seconds, async () => await result, late) : result
  }) as F
}

function isThenable (value: unknown): value is PromiseLike<unknown> {
  return typeof (value as Partial<PromiseLike<unknown>> | null | undefined)?.then === 'function'
}
