import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { onCore, startServer } from './child.ts'
import { figure, type Figure } from './figures.ts'
import type { ServerOptions } from './servers/serve.ts'
import type { Settings } from './settings.ts'

const run = promisify(execFile)

/** The plugin loads @fastify/secure-session when it is registered. */
const imports = {
  plugin: [new URL('../index.js', import.meta.url).href, '@fastify/cookie', '@fastify/secure-session'],
  libraries: ['fastify-plugin', '@fastify/cookie', '@fastify/secure-session', 'openid-client', 'jose']
}

interface Memory { rss: number, heapUsed: number }

/** Values of new processes, one per round: milliseconds, and bytes after a garbage collection. */
export interface Imported { time: number[], rss: number[] }

export interface Start {
  /** The import of the package, and of its libraries alone. */
  imports: Record<keyof typeof imports, Imported>
  /** Memory of a server that listens and has not served a request, after a garbage collection, in bytes. */
  memory: Record<'bare' | 'plugin', Record<keyof Memory, Figure>>
}

export async function measureStart (options: ServerOptions, settings: Settings): Promise<Start> {
  const imported = { libraries: { time: [], rss: [] } as Imported, plugin: { time: [], rss: [] } as Imported }
  const memory = { bare: [] as Memory[], plugin: [] as Memory[] }
  for (let round = 0; round < settings.startRounds; round += 1) {
    for (const name of ['libraries', 'plugin'] as const) {
      const { time, rss } = await importIn(imports[name])
      imported[name].time.push(time)
      imported[name].rss.push(rss)
    }
    memory.bare.push(await memoryOf('bare', options))
    memory.plugin.push(await memoryOf('plugin', options))
  }
  return { imports: imported, memory: { bare: summarise(memory.bare), plugin: summarise(memory.plugin) } }
}

/** In a new process that has loaded Fastify, as every application has. */
async function importIn (specifiers: string[]): Promise<{ time: number, rss: number }> {
  const program = `
    await import('fastify')
    const start = performance.now()
    for (const specifier of ${JSON.stringify(specifiers)}) await import(specifier)
    const time = performance.now() - start
    gc()
    console.log(JSON.stringify({ time, rss: process.memoryUsage().rss }))`
  const argv = [process.execPath, '--expose-gc', '--input-type=module', '--eval', program]
  const [command, args] = onCore('server', argv)
  const { stdout } = await run(command, args, { cwd: import.meta.dirname })
  return JSON.parse(stdout) as { time: number, rss: number }
}

async function memoryOf (file: string, options: ServerOptions): Promise<Memory> {
  const server = startServer(file, 'server', ['--expose-gc'])
  await server.ask('listen', options)
  const memory = await server.ask<Memory>('memory')
  await server.stop()
  return memory
}

function summarise (samples: Memory[]): Record<keyof Memory, Figure> {
  return { rss: figure(samples.map(({ rss }) => rss)), heapUsed: figure(samples.map(({ heapUsed }) => heapUsed)) }
}
