import cluster from 'node:cluster'
import { buildApp } from './app.ts'

// Starts two processes, which share one port. All settings come from the environment, as on a server.

const { PORT, OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, BASE_URL, OIDC_SESSION_KEY, OIDC_STORE } = process.env

if (cluster.isPrimary) {
  cluster.fork()
  cluster.fork()
} else {
  const app = await buildApp({
    issuer: OIDC_ISSUER ?? '',
    clientId: OIDC_CLIENT_ID ?? '',
    clientSecret: OIDC_CLIENT_SECRET ?? '',
    baseUrl: BASE_URL ?? '',
    session: { key: OIDC_SESSION_KEY ?? '' }
  }, OIDC_STORE ?? 'sqlite:./oidc.db')
  await app.listen({ port: Number(PORT), host: 'localhost' })
}
