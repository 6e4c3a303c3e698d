import express from 'express'
import openid from 'express-openid-connect'
import { CLIENT, serve } from './serve.mjs'

/** As in its README, with the code flow (EXAMPLES.md): by default it has no access token. */
serve(({ issuer, key }) => {
  const app = express()
  app.use(openid.auth({
    issuerBaseURL: issuer,
    baseURL: CLIENT.baseUrl,
    clientID: CLIENT.id,
    clientSecret: CLIENT.secret,
    secret: key,
    authRequired: false,
    authorizationParams: { response_type: 'code', scope: 'openid profile email' }
  }))
  app.get('/me', openid.requiresAuth(), (request, response) => { response.json({ sub: request.oidc.user.sub }) })
  return app.listen(0, '127.0.0.1')
})
