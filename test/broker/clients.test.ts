import * as oauth from 'openid-client'
import t from 'tap'
import Fastify from 'fastify'
import oidc from '../../index.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { client } from '../../lib/testing/index.ts'
import { SESSION_KEY } from '../support/app.ts'
import { startOidcProvider } from '../support/oidc-provider.ts'
import {
  POSTGRES, REDIS, skipWithoutPostgres, skipWithoutRedis, skipWithoutSqlite, uniqueName
} from '../support/services.ts'
import { createUserAgent } from '../support/user-agent.ts'
import { freePort } from '../support/free-port.ts'
import type { Test } from 'tap'
import type { Store } from '../../index.ts'

// An independent OAuth client, real stores, and a certified provider.

const AUDIENCE = 'https://api.example.com'
const SECRET = 'the secret of a resource server, long enough'

async function start (t: Test, store: Store | string) {
  const port = await freePort()
  const baseUrl = `http://127.0.0.1:${port}`
  const provider = await startOidcProvider({ redirectUris: [`${baseUrl}/auth/callback`], autoLogin: 'alice' })
  t.teardown(async () => await provider.close())
  const serve = async (port: number): Promise<string> => {
    const app = Fastify({ forceCloseConnections: true })
    t.teardown(async () => await app.close())
    await app.register(oidc, {
      issuer: provider.issuer,
      clientId: provider.clientId,
      clientSecret: provider.clientSecret,
      baseUrl,
      allowInsecureLoopback: true,
      store,
      session: { key: SESSION_KEY, cookieName: name },
      broker: { audience: AUDIENCE, nativeClients: { clientIds: ['cli'] }, resourceServers: { reports: SECRET } }
    })
    app.get('/api', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
    return await app.listen({ port, host: '127.0.0.1' })
  }
  const name = uniqueName()
  const urls = [await serve(port), await serve(0)] as const
  const discover = async (clientId: string, authentication: oauth.ClientAuth): Promise<oauth.Configuration> => {
    return await oauth.discovery(new URL(baseUrl), clientId, undefined, authentication, {
      algorithm: 'oauth2',
      execute: [oauth.allowInsecureRequests]
    })
  }
  return {
    urls,
    config: await discover('cli', oauth.None()),
    reports: await discover('reports', oauth.ClientSecretBasic(SECRET))
  }
}

const stores: Array<{ name: string, skip: string | false, store: (t: Test) => Store | string }> = [
  { name: 'memory', skip: false, store: () => createMemoryStore() },
  { name: 'SQLite', skip: skipWithoutSqlite, store: (t) => `sqlite:${t.testdir({})}/oidc.db` },
  { name: 'PostgreSQL', skip: skipWithoutPostgres, store: () => POSTGRES },
  { name: 'Redis', skip: skipWithoutRedis, store: () => REDIS }
]

for (const { name, skip, store } of stores) {
  t.test(
    `${name}: openid-client logs in by device and by code, refreshes, introspects and revokes, with two processes`,
    { skip },
    async (t) => {
      const { urls, config, reports } = await start(t, store(t))
      const status = async (token: string): Promise<number[]> =>
        await Promise.all(
          urls.map(async (url) => (await fetch(`${url}/api`, { headers: { authorization: `Bearer ${token}` } })).status)
        )

      const device = await oauth.initiateDeviceAuthorization(config, {})
      const user = createUserAgent()
      const page = await user.open(device.verification_uri_complete as string)
      const polling = oauth.pollDeviceAuthorizationGrant(config, { ...device, interval: 1 })
      t.match((await user.submit(await user.submit(page, {}), {})).body, /The device is logged in/)
      const byDevice = await polling
      t.match(byDevice, { token_type: 'bearer', refresh_token: String, expires_in: Number })
      t.ok(byDevice.expires_in as number > 890 && byDevice.expires_in as number <= 900)
      t.same(await status(byDevice.access_token), [200, 200], 'both processes accept the token')

      const verifier = oauth.randomPKCECodeVerifier()
      const state = oauth.randomState()
      const redirectUri = 'http://127.0.0.1:1/callback'
      const url = oauth.buildAuthorizationUrl(config, {
        redirect_uri: redirectUri,
        scope: 'openid email offline_access',
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
        state,
        prompt: 'consent'
      })
      const browser = client({ baseUrl: urls[0] })
      let location: string | undefined = url.href
      for (let steps = 0; steps < 10 && location?.startsWith(redirectUri) === false; steps++) {
        location = (await browser.step(location)).location
      }
      const byCode = await oauth.authorizationCodeGrant(config, new URL(location as string), {
        pkceCodeVerifier: verifier,
        expectedState: state
      })
      t.equal(byCode.scope, 'openid email offline_access')
      t.same(await status(byCode.access_token), [200, 200])

      const answers = await Promise.all(
        Array.from({ length: 20 }, async () => await oauth.refreshTokenGrant(config, byCode.refresh_token as string))
      )
      t.equal(
        new Set(answers.map(({ refresh_token: next }) => next)).size,
        1,
        'R27 twenty requests at once get the same refresh token'
      )
      const [fresh] = answers as [typeof byCode]
      t.same(await status(fresh.access_token), [200, 200])
      t.match(await oauth.tokenIntrospection(reports, fresh.access_token), {
        active: true,
        sub: 'alice',
        client_id: 'cli'
      })

      await oauth.tokenRevocation(config, fresh.refresh_token as string)
      t.same(
        [...(await status(fresh.access_token)), ...(await status(byCode.access_token))],
        [401, 401, 401, 401],
        'both processes refuse the tokens at once'
      )
      t.match(await oauth.tokenIntrospection(reports, fresh.access_token), { active: false })
      t.match(await oauth.refreshTokenGrant(config, fresh.refresh_token as string).catch((error: unknown) => error), {
        error: 'invalid_grant'
      })
      t.same(await status(byDevice.access_token), [200, 200], 'the tokens of the other login stay valid')
      t.match(
        await oauth
          .genericGrantRequest(config, 'urn:ietf:params:oauth:grant-type:token-exchange', { subject_token: 'x' })
          .catch((error: unknown) => error),
        { error: 'unsupported_grant_type' }
      )
    }
  )
}
