import { randomBytes } from 'node:crypto'
import { buildApp } from './app.ts'

const port = Number(process.env.PORT ?? 3000)
const providerPort = Number(process.env.PROVIDER_PORT ?? 3001)
const baseUrl = `http://localhost:${port}`

const app = await buildApp({
  baseUrl,
  sessionKey: process.env.OIDC_SESSION_KEY ?? randomBytes(32).toString('base64'),
  logLevel: process.env.LOG_LEVEL ?? 'warn',
  ...realProvider(process.env) ?? await embeddedProvider()
})
await app.listen({ port, host: 'localhost' })
console.log(`Open ${baseUrl}`)

function realProvider ({
  OIDC_ISSUER: issuer,
  OIDC_CLIENT_ID: clientId,
  OIDC_CLIENT_SECRET: clientSecret
}: NodeJS.ProcessEnv) {
  if (issuer === undefined) return undefined
  if (clientId === undefined) throw new Error('OIDC_ISSUER needs OIDC_CLIENT_ID')
  return { issuer, clientId, ...(clientSecret === undefined ? {} : { clientSecret }) }
}

async function embeddedProvider () {
  const { startProvider } = await import('./provider.ts')
  const { issuer, clientId, clientSecret } = await startProvider(providerPort, baseUrl)
  return { issuer, clientId, clientSecret }
}
