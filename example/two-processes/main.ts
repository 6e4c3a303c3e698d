import cluster from 'node:cluster'
import { buildApp } from './app.ts'

// Starts two processes, which share one port. All settings come from the environment, as on a server.

type Name = 'PORT' | 'OIDC_ISSUER' | 'OIDC_CLIENT_ID' | 'OIDC_CLIENT_SECRET' | 'BASE_URL' | 'OIDC_SESSION_KEY' | 'OIDC_STORE'

const env = process.env as Record<Name, string>

if (cluster.isPrimary) {
  cluster.fork()
  cluster.fork()
} else {
  const app = await buildApp({
    issuer: env.OIDC_ISSUER,
    clientId: env.OIDC_CLIENT_ID,
    clientSecret: env.OIDC_CLIENT_SECRET,
    baseUrl: env.BASE_URL,
    session: { key: env.OIDC_SESSION_KEY }
  }, env.OIDC_STORE)
  await app.listen({ port: Number(env.PORT), host: 'localhost' })
}
