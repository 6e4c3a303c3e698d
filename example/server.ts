import { findSqlite, registrationOf, startExamples } from './start.ts'
import type { Client } from './examples.ts'

const port = Number(process.env.PORT ?? 3000)
const server = { logger: { level: process.env.LOG_LEVEL ?? 'warn' } }

const client = realClient(process.env)
if (client !== undefined) console.log('Register at the provider:', registrationOf(port))
const { url, close } = await startExamples({ port, client, server, hasSqlite: await findSqlite() })
console.log(`Open ${url}`)
// The example with two processes would go on without this one.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => { close().finally(() => process.exit()) })

function realClient ({
  OIDC_ISSUER: issuer,
  OIDC_CLIENT_ID: clientId,
  OIDC_CLIENT_SECRET: clientSecret
}: NodeJS.ProcessEnv): Client | undefined {
  if (issuer === undefined) return undefined
  if (clientId === undefined) throw new Error('OIDC_ISSUER needs OIDC_CLIENT_ID')
  return { issuer, clientId, ...(clientSecret === undefined ? {} : { clientSecret }) }
}
