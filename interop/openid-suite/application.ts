import { randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import type { OidcOptions } from '../../index.ts'
import oidc from '../../index.ts'
import { client, testCertificate } from '../../lib/testing/index.ts'
import type { TestBrowser } from '../../lib/testing/index.ts'

/** An application that logs in at the suite. Each module gets one of its own. */
export interface Application {
  log: string[]
  browser: TestBrowser
  close: () => Promise<void>
}

const tls = testCertificate()

/** Starts the application at its fixed address, which is registered in the plan. */
export async function startApplication (
  { issuer, baseUrl, ca }: { issuer: string, baseUrl: string, ca: string },
  { session, ...options }: Partial<OidcOptions>
): Promise<Application> {
  const log: string[] = []
  const write = (line: string): void => { log.push(line) }
  const app = Fastify({ https: tls, forceCloseConnections: true, logger: { level: 'info', stream: { write } } })
  await app.register(oidc, {
    issuer,
    baseUrl,
    clientId: CLIENT.client_id,
    clientSecret: CLIENT.client_secret,
    clockTolerance: 0,
    session: { key: randomBytes(32), ...session },
    ...options
  })
  const { required } = app.oidc
  app.get('/me', { preHandler: required() }, async ({ oidcClaims }) => oidcClaims)
  app.get('/userinfo', { preHandler: required() }, async (request) => await app.oidc.userinfo(request))
  app.get('/refreshed', { preHandler: required() }, async (request) => {
    await app.oidc.accessToken(request, { refresh: true })
    return await app.oidc.userinfo(request)
  })
  await app.listen({ host: '127.0.0.1', port: Number(new URL(baseUrl).port) })
  return {
    log,
    browser: client({ baseUrl, ca: `${ca}\n${tls.cert}` }),
    close: async () => await app.close()
  }
}

/** The client as it is registered in every plan. */
export const CLIENT = { client_id: 'fastify-oidc', client_secret: randomBytes(32).toString('base64url') }
