import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import { httpWire } from '../../lib/testing/wire.ts'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Injectable } from '../../lib/testing/index.ts'
import type { Teardown } from './app.ts'
import type { Order } from './process.ts'

/** An application in another process. */
export interface RemoteApp extends Injectable {
  /** Closes it, and with it the connections to its store, unless the process was killed. */
  close: () => Promise<void>
}

/** A process of an application, which does what the test orders. */
export interface Process {
  /** Builds an application in the process. */
  build: (options: OidcOptions) => Promise<RemoteApp>
  /** The same, and returns the port on which it listens. */
  listen: (options: OidcOptions) => Promise<number>
  /** Moves its clock. */
  advance: (seconds: number) => Promise<void>
  /** How many requests to this path have begun there. */
  count: (path: string) => Promise<number>
  /** What it has written to its log. */
  output: () => string
  kill: () => void
}

/** Starts `process.ts`, which `compile` has compiled to `script`. */
export async function startProcess (t: Teardown, script: string, execArgv: string[] = []): Promise<Process> {
  const child = spawn(process.execPath, [...execArgv, script], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout?.on('data', (chunk: Buffer) => { output += chunk.toString() })
  const answers = new Map<number, (answer: number) => void>()
  child.on('message', ({ id, answer }: { id: number, answer: number }) => answers.get(id)?.(answer))
  await once(child, 'message')
  const ask = async (...order: Order['order']): Promise<number> => await new Promise((resolve) => {
    const id = answers.size + 1
    answers.set(id, resolve)
    child.send({ id, order })
  })
  return {
    async build (options) {
      const port = await ask('build', options)
      const close = async (): Promise<void> => { if (!child.killed) await ask('close', port) }
      return Object.assign(remoteApp(port), { close })
    },
    listen: async (options) => await ask('build', options),
    advance: async (seconds) => { await ask('advance', seconds) },
    count: async (path) => await ask('count', path),
    output: () => output,
    kill: () => { child.kill('SIGKILL') }
  }
}

/** Sends requests to the application that listens on this port. */
export function remoteApp (port: number): Injectable {
  const send = httpWire(undefined)
  const inject = async ({
    method = 'GET',
    url,
    headers = {},
    payload
  }: {
    method?: string
    url: string
    headers?: Record<string, string>
    payload?: string
  }) => {
    const response = await send({ method, url: new URL(url, `http://127.0.0.1:${port}`), headers, body: payload })
    return {
      statusCode: response.status,
      headers: { ...Object.fromEntries(response.headers), 'set-cookie': response.headers.getSetCookie() },
      rawPayload: response.body
    }
  }
  return { inject } as unknown as Injectable
}

/** A script for `--require` that hides the addon of @fastify/secure-session, as on Alpine. Returns its path. */
export function hideAddon (t: Test): string {
  const path = join(t.testdir(), 'hide-addon.cjs')
  writeFileSync(path, `
    const Module = require('node:module')
    const load = Module._load
    Module._load = function (request, ...others) {
      if (request === 'sodium-native') throw new Error("Cannot find addon '.' imported from sodium-native")
      return load.call(this, request, ...others)
    }
  `)
  return path
}
