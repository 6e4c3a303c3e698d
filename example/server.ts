import { findSqlite, registrationOf, startExamples } from './start.ts'
import type { Client } from './examples.ts'

const port = Number(process.env.PORT ?? 3000)
process.env.LOG_LEVEL ??= 'warn'

const client = realClient(process.env)
if (client !== undefined) console.log('Register at the provider:', registrationOf(port))
const { url } = await startExamples({ port, client, hasSqlite: await findSqlite() })
console.log(`Open ${url}`)

function realClient ({
  OIDC_ISSUER: issuer,
  OIDC_CLIENT_ID: clientId,
  OIDC_CLIENT_SECRET: clientSecret
}: NodeJS.ProcessEnv): Client | undefined {
  if (issuer === undefined) return undefined
  if (clientId === undefined) throw new Error('OIDC_ISSUER needs OIDC_CLIENT_ID')
  return { issuer, clientId, ...(clientSecret === undefined ? {} : { clientSecret }) }
}
