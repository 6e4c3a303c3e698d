import { betterAuth } from 'better-auth'
import { fromNodeHeaders } from 'better-auth/node'
import { genericOAuth } from 'better-auth/plugins'
import Fastify from 'fastify'
import { CLIENT, serve } from './serve.mjs'

/** As in its guide for Fastify, without a database: sessions are in encrypted cookies. */
serve(async ({ issuer, key }) => {
  const auth = betterAuth({
    baseURL: CLIENT.baseUrl,
    secret: key,
    rateLimit: { enabled: false },
    plugins: [genericOAuth({
      config: [{
        providerId: 'bench',
        discoveryUrl: `${issuer}/.well-known/openid-configuration`,
        clientId: CLIENT.id,
        clientSecret: CLIENT.secret,
        scopes: ['openid', 'profile', 'email'],
        pkce: true,
        // One account for each address, and the provider has one address for all its users.
        mapProfileToUser: ({ sub }) => ({ email: `${sub}@example.com` })
      }]
    })]
  })
  const app = Fastify()

  async function pass (response, reply) {
    reply.status(response.status)
    for (const [name, value] of response.headers) reply.header(name, value)
    return reply.send(response.body === null ? null : await response.text())
  }

  app.get('/api/auth/*', async (request, reply) => {
    const url = new URL(request.url, CLIENT.baseUrl)
    return await pass(await auth.handler(new Request(url, { headers: fromNodeHeaders(request.headers) })), reply)
  })
  // Its client would post this from a page.
  app.get('/login', async (_request, reply) => {
    const body = { provider: 'bench', callbackURL: '/' }
    const response = await auth.api.signInSocial({ body, headers: new Headers(), asResponse: true })
    reply.header('set-cookie', response.headers.getSetCookie())
    const { url } = await response.json()
    return reply.redirect(url)
  })
  app.get('/me', async (request, reply) => {
    const session = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) })
    if (session === null) return reply.status(401).send({})
    return { sub: session.user.id }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app.server
})
