import { serve as listen } from '@hono/node-server'
import { getAuth, initOidcAuthMiddleware, oidcAuthMiddleware, processOAuthCallback } from '@hono/oidc-auth'
import { Hono } from 'hono'
import { CLIENT, serve } from './serve.mjs'

// It speaks https only, and has no option for that. Here a proxy that costs nothing takes the TLS away.
const { fetch } = globalThis
globalThis.fetch = (url, init = {}) => {
  const headers = new Headers(init.headers)
  headers.set('x-forwarded-proto', 'https')
  return fetch(String(url).replace('https:', 'http:'), { ...init, headers })
}

/** As in its README. */
serve(({ issuer, key }) => {
  const app = new Hono()
  app.use(initOidcAuthMiddleware({
    OIDC_ISSUER: issuer.replace('http:', 'https:'),
    OIDC_CLIENT_ID: CLIENT.id,
    OIDC_CLIENT_SECRET: CLIENT.secret,
    OIDC_AUTH_SECRET: key
  }))
  app.get('/callback', (context) => processOAuthCallback(context))
  app.use('*', oidcAuthMiddleware())
  app.get('/me', async (context) => {
    const { sub } = await getAuth(context)
    return context.json({ sub })
  })
  return listen({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' })
})
