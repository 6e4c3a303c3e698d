import { OidcError } from '../errors.ts'
import { absent } from '../util/absent.ts'
import type { PoolClient } from 'pg'

/** The part of a pool that the store uses. The pools of `pg` and `@fastify/postgres` (`app.pg`) fit. */
export interface PostgresPool {
  query: (text: string, values?: unknown[]) => Promise<{ rows: unknown[], rowCount: number | null }>
}

/** The pool of a store that was opened by its address. */
export interface OwnPool extends PostgresPool {
  end: () => Promise<void>
}

/** How many connections a store has at most. */
const MAX_CONNECTIONS = 10
/** How long this process waits for a connection, and for the answer to a query, in milliseconds. */
export const TIMEOUT = 3000
/**
 * How long the server works on a query, in milliseconds. It must give up before this process does: a query whose
 * connection was given up goes on in the server, and so would the next one, on the next connection.
 */
const STATEMENT_TIMEOUT = 2500

/** The SQLSTATE of a query that `statement_timeout` has ended. */
const QUERY_CANCELED = '57014'

/** `load` imports the optional peer dependency. */
export async function openPool (
  url: string,
  load: () => Promise<unknown> = async () => await import('pg').catch(absent)
): Promise<OwnPool> {
  const module = await load() as { default: typeof import('pg') } | undefined
  if (module === undefined) {
    throw new OidcError('FST_OIDC_OPTION', { message: '"store" in PostgreSQL needs the package pg' })
  }
  const { Pool } = module.default

  function open (limits: { statement_timeout?: number }) {
    const pool = new Pool({
      connectionString: url,
      max: MAX_CONNECTIONS,
      connectionTimeoutMillis: TIMEOUT,
      query_timeout: TIMEOUT,
      allowExitOnIdle: true,
      ...limits
    })
    // A connection broke: its query fails too, and the next query opens a new one.
    pool.on('error', () => {}).on('connect', (client) => client.on('error', () => {}))
    return pool
  }

  const limited = open({ statement_timeout: STATEMENT_TIMEOUT })
  let pool = limited

  // PgBouncer refuses connections with a statement_timeout, so the role must have it (docs/stores.md).
  async function connect (): Promise<PoolClient> {
    const used = pool
    try {
      return await used.connect()
    } catch (error) {
      if (used !== limited || !/statement_timeout/.test(String(error))) throw error
      if (pool === limited) pool = open({})
      return await pool.connect()
    }
  }

  return {
    async query (text, values) {
      const client = await connect()
      try {
        const result = await client.query(text, values)
        client.release()
        return result
      } catch (error) {
        // When the server has ended the query, the connection is good. A new one would only add to its load.
        const isGood = (error as { code?: string }).code === QUERY_CANCELED
        client.release(isGood ? undefined : error as Error)
        throw error
      }
    },

    async end () {
      await limited.end()
      if (pool !== limited) await pool.end()
    }
  }
}
