// An application in CommonJS for which the plugin is what `require()` gives.
import Fastify = require('fastify')
import oidc = require('fastify-oidc')

export function build (options: oidc.OidcOptions): void {
  const app = Fastify()
  app.register(oidc, options)
  app.after((error) => {
    if (error instanceof oidc.OidcError) throw oidc.refuse(error.code)
    app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => oidcClaims?.sub)
  })
}
