import { setTimeout as sleep } from 'node:timers/promises'
import { pick } from './pick.ts'
import type { Injectable } from '../../lib/testing/index.ts'
import type { Ledger } from './ledger.ts'
import type { AppProcess } from './processes.ts'
import type { Answer, Sent } from './remote.ts'
import type { Timeline } from './timeline.ts'

/** What an attacker may have stolen: a Cookie header, and the callback that was opened with it. */
export interface Stolen {
  cookie: string
  callback: string
}

/** A load balancer, as a browser or a program sees it. Each request goes to any of its processes. */
export interface Entrance {
  processes: AppProcess[]
  /** Sends a request. Repeats it when its connection was lost to a kill, as a browser or a user would. */
  send: (sent: Sent) => Promise<Answer>
  /** An application for `client` of the test kit. */
  injectable: Injectable
  /** The newest first. */
  stolen: Stolen[]
}

const MAX_STOLEN = 50
const PAUSE = 100 // milliseconds

export function openEntrance (processes: AppProcess[], timeline: Timeline, ledger: Ledger): Entrance {
  async function send (sent: Sent): Promise<Answer> {
    const from = Date.now()
    try {
      return await pick(processes).send(sent)
    } catch (error) {
      if (!timeline.excuses(from, 'connection')) throw error
    }
    ledger.count('requests repeated after a kill')
    await sleep(PAUSE)
    return await send(sent)
  }

  return { processes, send, injectable: { inject: send } as unknown as Injectable, stolen: [] }
}

export function keepStolen ({ stolen }: Entrance, found: Stolen): void {
  stolen.unshift(found)
  stolen.length = Math.min(stolen.length, MAX_STOLEN)
}
