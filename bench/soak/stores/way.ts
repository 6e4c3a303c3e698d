import { startChild } from '../../child.ts'
import type { StoreFault } from '../stores.ts'

/** A way to a server on this computer, and how it breaks. */
export interface Way {
  port: number
  faults: StoreFault[]
  stop: () => Promise<void>
}

const SLOW = 150 // milliseconds, in each direction

export async function openWay (target: number): Promise<Way> {
  const proxy = startChild('soak/tcp-proxy', 'any')
  const fault = (name: string, command: string, args?: unknown): StoreFault => ({
    name,
    begin: async () => await proxy.ask(command, args),
    end: async () => await proxy.ask('mend')
  })
  return {
    port: await proxy.ask<number>('listen', target),
    faults: [
      fault('store refuses connections', 'refuse'),
      fault('store is silent', 'silence'),
      fault('connections to the store are cut', 'cut'),
      fault('store is slow', 'slow', SLOW)
    ],
    stop: proxy.stop
  }
}
