import { randomBytes } from 'node:crypto'
import { openDatabase } from 'fastify-oidc/store/sqlite'
import { EXAMPLES, type Client, type Example } from './examples.ts'
import { startProvider } from './provider/provider.ts'
import { buildStartPage } from './start-page.ts'
import type { FastifyServerOptions } from 'fastify'

export interface Settings {
  /** The port of the start page. The examples have the ports after it, then the embedded providers. */
  port: number
  /** A client at a real provider. Default: one at an embedded provider. */
  client?: Client | undefined
  /** The options of Fastify. */
  server: FastifyServerOptions
  /** Whether the examples that need SQLite start. */
  hasSqlite: boolean
}

/** How many ports the start page, the examples and the embedded providers have. */
export const PORTS = EXAMPLES.length + 3

/** Whether Node.js has SQLite, or better-sqlite3 is built. */
export async function findSqlite (open = openDatabase): Promise<boolean> {
  return await open(':memory:').then((database) => { database.close(); return true }, () => false)
}

/** Starts all, and returns the address of the start page. */
export async function startExamples (settings: Settings): Promise<{ url: string, close: () => Promise<void> }> {
  const { port, hasSqlite, server } = settings
  const closers: Array<() => Promise<void>> = []
  const url = urlOf(port)
  const provider = async (port: number): Promise<Client> => {
    const { close, ...client } = await startProvider({ port, home: url, ...registrationOf(settings.port) })
    closers.push(close)
    return client
  }
  const client = settings.client ?? await provider(port + PORTS - 2)
  const employees = await provider(port + PORTS - 1)
  const key = randomBytes(32).toString('base64')
  const started = placed(port).filter(({ example }) => hasSqlite || example.needsSqlite !== true)
  for (const { example, baseUrl } of started) {
    const options = { baseUrl, session: { key } }
    closers.push(await example.start({ options, client, employees, server }))
  }
  const page = buildStartPage(placed(port).map(({ example, baseUrl }) =>
    ({ ...example, url: hasSqlite || example.needsSqlite !== true ? baseUrl : null })))
  await page.listen({ port, host: 'localhost' })
  closers.push(async () => { await page.close() })
  return { url, close: async () => { await Promise.all(closers.map(async (close) => await close())) } }
}

/** What the client of the examples must have registered at its provider. */
export function registrationOf (port: number): { redirectUris: string[], postLogoutRedirectUris: string[] } {
  return {
    redirectUris: placed(port).flatMap(({ example: { callbacks = ['/auth/callback'] }, baseUrl }) =>
      callbacks.map((path) => baseUrl + path)),
    postLogoutRedirectUris: placed(port).map(({ baseUrl }) => `${baseUrl}/auth/logged-out`)
  }
}

function placed (port: number): Array<{ example: Example, baseUrl: string }> {
  return EXAMPLES.map((example, index) => ({ example, baseUrl: urlOf(port + 1 + index) }))
}

function urlOf (port: number): string {
  return `http://localhost:${port}`
}
