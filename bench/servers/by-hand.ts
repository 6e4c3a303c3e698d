import secureSession from '@fastify/secure-session'
import * as client from 'openid-client'
import { handler, serve } from './serve.ts'

/** The smallest login with the same checks: openid-client in two handlers, and one session cookie. */

declare module '@fastify/secure-session' {
  interface SessionData {
    byHandLogin: { state: string, nonce: string, codeVerifier: string } | undefined
    byHandSession: { claims: client.IDToken | undefined, tokens: client.TokenEndpointResponse }
  }
}

const baseUrl = 'https://app.example.com'
const redirectUri = `${baseUrl}/auth/callback`

function discover (issuer: string): Promise<client.Configuration> {
  const authentication = client.ClientSecretBasic('a secret of the benchmark')
  const execute = [client.allowInsecureRequests, client.enableNonRepudiationChecks]
  return client.discovery(new URL(issuer), 'bench', undefined, authentication, { execute })
}

serve(async (app, { issuer, key }) => {
  const config = await discover(issuer)
  await app.register(secureSession, { key: Buffer.from(key, 'base64'), cookie: { path: '/', secure: true } })

  app.get('/auth/login', async (request, reply) => {
    const state = client.randomState()
    const nonce = client.randomNonce()
    const codeVerifier = client.randomPKCECodeVerifier()
    request.session.set('byHandLogin', { state, nonce, codeVerifier })
    return reply.redirect(client.buildAuthorizationUrl(config, {
      redirect_uri: redirectUri,
      scope: 'openid profile email',
      state,
      nonce,
      code_challenge: await client.calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: 'S256'
    }).href)
  })

  app.get('/auth/callback', async (request, reply) => {
    const login = request.session.get('byHandLogin')
    if (login === undefined) throw new Error('No login is pending')
    const { state: expectedState, nonce: expectedNonce, codeVerifier: pkceCodeVerifier } = login
    const checks = { expectedState, expectedNonce, pkceCodeVerifier }
    const tokens = await client.authorizationCodeGrant(config, new URL(request.url, baseUrl), checks)
    request.session.set('byHandLogin', undefined)
    request.session.set('byHandSession', { claims: tokens.claims(), tokens })
    return reply.redirect('/')
  })

  app.get('/', handler)
})
