import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { startClock } from '../../lib/testing/index.ts'
import { answer } from '../answer.ts'
import { buildApplication } from './application.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { OidcError } from '../../index.ts'
import type { ApplicationOptions } from './application.ts'

/** One process of the application. Start it with --expose-gc. */

export interface ProcessReport {
  /** Bytes. */
  heap: number
  rss: number
  /** Milliseconds. */
  delayP99: number
  delayMax: number
  /** The refusals with their details, and how often each happened. */
  refusals: Record<string, number>
}

export interface ListenCommand {
  options: ApplicationOptions
  /** 0: any. */
  port: number
}

const MAX_REFUSALS = 200 // different lines
const clock = startClock()
const delay = monitorEventLoopDelay({ resolution: 10 })
const refusals = new Map<string, number>()
let app: FastifyInstance

function count ({ code, detail = '', cause }: OidcError): void {
  const line = [code, detail.replaceAll(/127[\d.:]+/g, ''), rootOf(cause)].join(' ').trim().slice(0, 200)
  if (refusals.has(line) || refusals.size < MAX_REFUSALS) refusals.set(line, (refusals.get(line) ?? 0) + 1)
}

/** Describes the first error of a chain of causes. */
function rootOf (cause: unknown): string {
  if (!(cause instanceof Error)) return ''
  return cause.cause instanceof Error
    ? rootOf(cause.cause)
    : `${(cause as { code?: string }).code ?? cause.name} ${cause.message.replaceAll(/\d+/g, 'N')}`
}

/** Collects garbage twice, with a pause: finalizers run after the first collection. */
async function settledMemory (): Promise<NodeJS.MemoryUsage> {
  globalThis.gc?.()
  await sleep(200)
  globalThis.gc?.()
  return process.memoryUsage()
}

answer({
  async listen ({ options, port }: ListenCommand) {
    app = (await buildApplication(options, count)).app
    await app.listen({ port, host: '127.0.0.1' })
    delay.enable()
    return (app.server.address() as AddressInfo).port
  },
  /** Moves the clock of this process. */
  advance: (seconds: number) => clock.advance(seconds),
  /** Everything since the last report. */
  async report (): Promise<ProcessReport> {
    const [delayP99, delayMax] = [delay.percentile(99) / 1e6, delay.max / 1e6]
    const { heapUsed, rss } = await settledMemory()
    const report = { heap: heapUsed, rss, delayP99, delayMax, refusals: Object.fromEntries(refusals) }
    delay.reset()
    refusals.clear()
    return report
  },
  close: async () => await app.close()
})
