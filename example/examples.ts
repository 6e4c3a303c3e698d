import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDatabase } from 'fastify-oidc/store/sqlite'
import { buildApp as buildApi } from './api/app.ts'
import { buildApp as buildCommandLine } from './command-line/app.ts'
import { buildApp as buildServerRendered } from './server-rendered/app.ts'
import { buildApp as buildSinglePage } from './single-page/app.ts'
import { buildApp as buildTwoProviders } from './two-providers/app.ts'
import { buildApp as buildUsers } from './users/app.ts'
import type { Database } from 'better-sqlite3'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { OidcOptions } from 'fastify-oidc'

/** A client at a provider. */
export interface Client {
  issuer: string
  clientId: string
  clientSecret?: string
}

/** What an example gets when it starts. */
export interface Setup {
  /** `baseUrl` and `session`. The names of the cookies have the port: a browser sends them to all ports of the host. */
  options: OidcOptions
  /** The provider of most examples. */
  client: Client
  /** A second provider. */
  employees: Client
  /** The options of Fastify. */
  server: FastifyServerOptions
}

type Close = () => Promise<void>

export interface Example {
  /** The folder. */
  name: string
  title: string
  sentence: string
  needsSqlite?: boolean
  /** The paths of its redirect URIs. Default: the one of an application with one provider. */
  callbacks?: string[]
  start: (setup: Setup) => Promise<Close>
}

/** The examples, in the order of their ports. */
export const EXAMPLES: Example[] = [
  {
    name: 'single-page',
    title: 'Single-page application',
    sentence: 'A front end that never sees a token: it asks who is logged in, calls an API, and logs out by fetch.',
    start: async ({ options, client, server }) =>
      await listen(await buildSinglePage({ ...options, ...client }, server), options)
  },
  {
    name: 'server-rendered',
    title: 'Server-rendered application',
    sentence: 'Pages from templates, with @fastify/view and @fastify/helmet.',
    start: async ({ options, client, server }) =>
      await listen(await buildServerRendered({ ...options, ...client }, server), options)
  },
  {
    name: 'users',
    title: 'Users and roles in SQLite',
    sentence: 'The application has its own users. An administrator gives roles and blocks users.',
    needsSqlite: true,
    start: async ({ options, client, server }) => {
      const database = await openDatabase(':memory:') as unknown as Database
      return await listen(await buildUsers({ ...options, ...client }, database, server), options)
    }
  },
  {
    name: 'two-providers',
    title: 'Two providers',
    sentence: 'Customers log in at one provider, employees at another.',
    callbacks: ['/auth/customers/callback', '/auth/employees/callback'],
    start: async ({ options, client: customers, employees, server }) =>
      await listen(await buildTwoProviders(options, { customers, employees }, server), options)
  },
  {
    name: 'api',
    title: 'API with Swagger',
    sentence: 'The OpenAPI document has what the guards demand, and its page calls the API with the session.',
    start: async ({ options, client, server }) =>
      await listen(await buildApi({ ...options, ...client }, server), options)
  },
  {
    name: 'two-processes',
    title: 'Two processes',
    sentence: 'One application in two processes that share their sessions in a SQLite file.',
    needsSqlite: true,
    start: startProcesses
  },
  {
    name: 'command-line',
    title: 'Command-line client',
    sentence: 'A program logs in by device flow, and calls the API with a token of the application.',
    start: async ({ options, client, server }) =>
      await listen(await buildCommandLine({ ...options, ...client }, server), options)
  }
]

async function listen (app: FastifyInstance, { baseUrl }: OidcOptions): Promise<Close> {
  await app.listen({ port: Number(new URL(baseUrl).port), host: 'localhost' })
  return async () => { await app.close() }
}

/** Runs `two-processes/main.ts` as a user would: with its settings in the environment. */
async function startProcesses ({ options, client }: Setup): Promise<Close> {
  const folder = await mkdtemp(join(tmpdir(), 'fastify-oidc-'))
  const main = join(import.meta.dirname, `two-processes/main${import.meta.filename.slice(-3)}`)
  const child = spawn(process.execPath, [...process.execArgv, main], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: {
      ...process.env,
      PORT: new URL(options.baseUrl).port,
      BASE_URL: options.baseUrl,
      OIDC_ISSUER: client.issuer,
      OIDC_CLIENT_ID: client.clientId,
      OIDC_CLIENT_SECRET: client.clientSecret,
      OIDC_SESSION_KEY: String(options.session.key),
      OIDC_STORE: `sqlite:${join(folder, 'oidc.db')}`
    }
  })
  const closed = once(child, 'close')
  return async () => {
    child.kill()
    await closed
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}
