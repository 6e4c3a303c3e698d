import t from 'tap'
import Fastify from 'fastify'
import { pino } from 'pino'
import oidc from '../index.ts'
import type { FastifyTypeProvider } from 'fastify'
import type {
  IdTokenClaims, OidcClaims, OidcError, OidcOptions, OidcSession, OidcUser, SessionIdentity, UserinfoClaims
} from '../index.ts'

// Compilation is the assertion: `tsc --noEmit` fails when a wrong line compiles, or a correct one does not.

// The test of the README augments OidcClaims and OidcUser, in its own program.

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
function holds<T extends true> (value: T): void { t.equal(value, true) }

const options: OidcOptions = {
  issuer: 'https://id.example.com',
  clientId: 'web',
  baseUrl: 'https://app.example.com',
  session: { secret: 'x'.repeat(32) },
  parseClaims: (claims) => ({ iss: claims.iss, sub: claims.sub, upper: String(claims['name']).toUpperCase() }),
  onClaims: async (claims, { provider, tokens, userinfo, returnTo, request, reply }) => {
    holds<Equal<typeof claims, IdTokenClaims>>(true)
    holds<Equal<Awaited<ReturnType<typeof userinfo>>, UserinfoClaims>>(true)
    const texts: string[] = [provider, tokens.access_token, returnTo, request.id]
    return { size: texts.length + reply.statusCode }
  },
  onLogout: (session, { reason }) => {
    holds<Equal<typeof session, OidcSession>>(true)
    holds<Equal<typeof reason, 'logout' | 'login' | 'refresh_failed' | 'backchannel' | 'frontchannel' | 'revoked'>>(
      true
    )
  },
  onError: (error) => { holds<Equal<typeof error, OidcError>>(true) }
}

t.test('the types of options, guards and request properties', async (t) => {
  const app = Fastify()
  await app.register(oidc, options)
  app.get(
    '/me',
    {
      preHandler: app.oidc.required({
        roles: ['admin'],
        claims: { 'a.b': [1, true, 'x'] },
        maxAge: 60,
        scopes: 'openid',
        acr: 'x'
      })
    },
    async (request) => {
      holds<Equal<typeof request.oidcClaims, OidcClaims | null>>(true)
      holds<Equal<typeof request.oidcSession, OidcSession | null>>(true)
      // @ts-expect-error the user has no such field until the application declares it
      const size: number | undefined = request.oidcUser?.size
      return { size }
    }
  )
  app.get('/who', async (request) => {
    const found = await app.oidc.session(request)
    holds<Equal<typeof found, SessionIdentity | null>>(true)
    // @ts-expect-error there need not be a session
    const { claims } = found
    const user: OidcUser | null | undefined = found?.user
    return [claims, user]
  })
  t.throws(
    () => {
      // @ts-expect-error not an option of a guard
      app.oidc.required({ role: 'admin' })
    },
    { code: 'FST_OIDC_OPTION' }
  )
  t.throws(
    () => {
      // @ts-expect-error a claim has no value that is an object
      app.oidc.required({ claims: { email: { verified: true } } })
    },
    { code: 'FST_OIDC_OPTION' }
  )
  await t.rejects(
    async () => {
      // @ts-expect-error only asymmetric algorithms
      await Fastify().register(oidc, { ...options, idTokenSigningAlg: 'HS256' })
    },
    { code: 'FST_OIDC_OPTION' }
  )
  await t.rejects(
    async () => {
      // @ts-expect-error clientId and session are required
      await Fastify().register(oidc, { issuer: 'https://id.example.com', baseUrl: 'https://app.example.com' })
    },
    { code: 'FST_OIDC_OPTION' }
  )
  await t.rejects(
    async () => {
      // @ts-expect-error only asymmetric algorithms
      await Fastify().register(oidc, { ...options, store: 'memory:', broker: { audience: 'a', signingAlg: 'HS256' } })
    },
    { code: 'FST_OIDC_OPTION' }
  )
  await t.rejects(
    async () => {
      // @ts-expect-error a broker has an audience
      await Fastify().register(oidc, { ...options, store: 'memory:', broker: {} })
    },
    { code: 'FST_OIDC_OPTION' }
  )
  t.equal((await app.inject('/me')).statusCode, 401)
})

t.test('K17 guards and functions fit applications of HTTP/2, with a logger and a type provider of their own', async (t) => {
  const http2 = Fastify({ http2: true })
  await http2.register(oidc, options)
  http2.addHook('onRequest', http2.oidc.optional())
  http2.get('/me', { preHandler: [http2.oidc.required()] }, async (request, reply) => {
    await http2.oidc.required()(request, reply)
    await http2.oidc.authenticate(request)
    await http2.oidc.login(request, reply)
    return await http2.oidc.accessToken(request)
  })
  t.equal((await http2.inject('/me')).statusCode, 401)

  const logged = Fastify({ loggerInstance: pino({ level: 'silent' }) })
  await logged.register(oidc, options)
  logged.addHook('preValidation', logged.oidc.optional())
  logged.get('/me', { preHandler: logged.oidc.required() }, async (request, reply) => {
    await logged.oidc.required()(request, reply)
    await logged.oidc.userinfo(request)
    await logged.oidc.logout(request, reply)
  })
  t.equal((await logged.inject('/me')).statusCode, 401)

  const typed = Fastify().withTypeProvider<FastifyTypeProvider & { serializer: string }>()
  await typed.register(oidc, options)
  typed.get('/me', { schema: {}, preHandler: typed.oidc.required() }, async (request, reply) => {
    await typed.oidc.required()(request, reply)
    return await typed.oidc.accessToken(request)
  })
  t.equal((await typed.inject('/me')).statusCode, 401)
})
