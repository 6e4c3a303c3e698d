import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import { setTimeout as delay } from 'node:timers/promises'

/** What the suite says in the end about a module. */
export type Result = 'PASSED' | 'WARNING' | 'REVIEW' | 'SKIPPED' | 'FAILED' | 'UNKNOWN'

export interface Module {
  testModule: string
  variant: Record<string, string>
}

/** A running module. */
export interface Run {
  id: string
  status: string
  result: Result | null
}

/** The API of the suite, for a client that is tested. */
export interface Suite {
  /** The certificates that its servers have, PEM. */
  ca: string
  /** The issuer of the modules with this alias. */
  issuerOf: (alias: string) => string
  createPlan: (name: string, variant: object, configuration: object) => Promise<{ id: string, modules: Module[] }>
  /** Starts a module, and waits until its provider answers. */
  start: (plan: string, module: Module) => Promise<string>
  /** Waits until a module has ended. */
  end: (id: string) => Promise<Run>
  /** Why a module did not pass. */
  failures: (id: string) => Promise<string[]>
}

const TIME_LIMIT = 120
const ENDED = ['FINISHED', 'INTERRUPTED']

export function createSuite (url: string, caFile: string): Suite {
  const ca = readFileSync(caFile, 'utf8')

  function send (method: string, path: string, body?: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json' }
      request(new URL(path, url), { method, ca, headers }, (response) => {
        let text = ''
        response.setEncoding('utf8')
          .on('data', (chunk: string) => { text += chunk })
          .on('error', reject)
          .on('end', () => {
            if ((response.statusCode ?? 0) < 300) resolve(JSON.parse(text))
            else reject(new Error(`${method} ${path}: ${response.statusCode} ${text.slice(0, 500)}`))
          })
      }).on('error', reject).end(body && JSON.stringify(body))
    })
  }

  async function wait (id: string, states: string[]): Promise<Run> {
    for (const limit = Date.now() + TIME_LIMIT * 1000; ; await delay(200)) {
      const run = await send('GET', `/api/info/${id}`) as Run
      if (states.includes(run.status)) return run
      if (Date.now() > limit) throw new Error(`the module is ${run.status} after ${TIME_LIMIT} seconds`)
    }
  }

  return {
    ca,
    issuerOf: (alias) => `${url}/test/a/${alias}/`,

    createPlan: async (name, variant, configuration) => {
      const params = new URLSearchParams({ planName: name, variant: JSON.stringify(variant) })
      return await send('POST', `/api/plan?${params}`, configuration) as { id: string, modules: Module[] }
    },

    start: async (plan, { testModule, variant }) => {
      const params = new URLSearchParams({ test: testModule, plan, variant: JSON.stringify(variant) })
      const { id } = await send('POST', `/api/runner?${params}`) as Run
      const { status } = await wait(id, ['CONFIGURED', 'WAITING', ...ENDED])
      if (status === 'CONFIGURED') await send('POST', `/api/runner/${id}`)
      await wait(id, ['WAITING', ...ENDED])
      return id
    },

    end: async (id) => await wait(id, ENDED),

    failures: async (id) => {
      const log = await send('GET', `/api/log/${id}`) as Array<{ result?: string, src?: string, msg?: string }>
      return log
        .filter(({ result }) => result !== undefined && !['SUCCESS', 'INFO', 'REVIEW'].includes(result))
        .map(({ result, src, msg }) => `${result} ${src}: ${msg}`)
    }
  }
}
