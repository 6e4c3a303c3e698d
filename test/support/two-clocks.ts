import type { FastifyInstance } from 'fastify'
import type { Clock } from '../../lib/testing/index.ts'

/** Two processes of one application: the second answers these paths, and its clock differs by so many seconds. */
export function twoClocks (
  [first, second]: readonly [FastifyInstance, FastifyInstance],
  pathsOfSecond: RegExp,
  clock: Pick<Clock, 'advance'>,
  difference: number
): FastifyInstance {
  const inject = async (request: { url: string }) => {
    if (!pathsOfSecond.test(request.url)) return await first.inject(request as never)
    clock.advance(difference)
    try {
      return await second.inject(request as never)
    } finally {
      clock.advance(-difference)
    }
  }
  return { inject } as unknown as FastifyInstance
}
