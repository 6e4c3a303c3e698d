import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { onCore, startChild } from './child.ts'
import { figure, type Figure } from './figures.ts'
import type { ServerOptions } from './servers/serve.ts'
import type { Settings } from './settings.ts'

const run = promisify(execFile)

const imports = {
  plugin: [new URL('../index.js', import.meta.url).href],
  libraries: ['openid-client', 'jose', '@fastify/secure-session']
}

interface Memory { rss: number, heapUsed: number }

export interface Start {
  /** Time to import the package, and its libraries alone, in a new process; in milliseconds, one value per round. */
  imports: Record<keyof typeof imports, number[]>
  /** Memory of a server that listens and has not served a request, after a garbage collection, in bytes. */
  memory: Record<'bare' | 'plugin', Record<keyof Memory, Figure>>
}

export async function measureStart (options: ServerOptions, settings: Settings): Promise<Start> {
  const libraries: number[] = []
  const plugin: number[] = []
  const memory = { bare: [] as Memory[], plugin: [] as Memory[] }
  for (let round = 0; round < settings.startRounds; round += 1) {
    libraries.push(await importTime(imports.libraries))
    plugin.push(await importTime(imports.plugin))
    memory.bare.push(await memoryOf('bare', options))
    memory.plugin.push(await memoryOf('plugin', options))
  }
  return {
    imports: { libraries, plugin },
    memory: { bare: summarise(memory.bare), plugin: summarise(memory.plugin) }
  }
}

async function importTime (specifiers: string[]): Promise<number> {
  const program = `
    const start = performance.now()
    for (const specifier of ${JSON.stringify(specifiers)}) await import(specifier)
    console.log(performance.now() - start)`
  const [command, args] = onCore('server', [process.execPath, '--input-type=module', '--eval', program])
  const { stdout } = await run(command, args, { cwd: import.meta.dirname })
  return Number(stdout)
}

async function memoryOf (file: string, options: ServerOptions): Promise<Memory> {
  const server = startChild(`servers/${file}`, 'server', ['--expose-gc'])
  await server.ask('listen', options)
  const memory = await server.ask<Memory>('memory')
  await server.stop()
  return memory
}

function summarise (samples: Memory[]): Record<keyof Memory, Figure> {
  return { rss: figure(samples.map(({ rss }) => rss)), heapUsed: figure(samples.map(({ heapUsed }) => heapUsed)) }
}
