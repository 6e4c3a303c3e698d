import t from 'tap'
import Fastify from 'fastify'
import swagger from '@fastify/swagger'
import oidc from '../../index.ts'
import { sessionCookie } from '../../lib/testing/index.ts'
import { BASE_URL, optionsFor, startApp } from '../support/app.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'

interface Operation {
  security?: unknown
  responses: Record<string, { description: string }>
}
interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { securitySchemes?: Record<string, unknown> }
}

async function start (
  t: Test,
  options: Partial<OidcOptions> = {},
  document: object = { openapi: { info: { title: 'API', version: '1' } } }
): Promise<{ app: FastifyInstance; issuer: string }> {
  const { provider } = await startApp(t)
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(swagger, document)
  await app.register(oidc, optionsFor(provider, options))
  const { required, optional } = app.oidc
  const schema = { summary: 'mail', response: { 200: { type: 'object', properties: { ok: { type: 'boolean' } } } } }
  app.get('/open', async () => ({}))
  app.get('/maybe', { preHandler: optional() }, async () => ({}))
  app.get('/mail/:id', { preHandler: [async () => {}, required({ scopes: 'email mail:read' })], schema }, async () => ({
    ok: true
  }))
  app.post(
    '/jobs',
    { onRequest: required(options.bearer === undefined ? {} : { accept: ['client'], scopes: 'jobs' }) },
    async () => ({})
  )
  app.get(
    '/own',
    { preHandler: required(), schema: { security: [], response: { 401: { description: 'mine', type: 'object' } } } },
    async () => ({})
  )
  await app.ready()
  return { app, issuer: provider.issuer }
}

t.test('S83 the OpenAPI document describes the guards', async (t) => {
  const { app, issuer } = await start(t, { bearer: { audience: 'https://api.example.com' } })
  const document = app.swagger() as unknown as Document
  t.same(document.components.securitySchemes, {
    oidcSession: { type: 'apiKey', in: 'cookie', name: '__Host-oidc' },
    oidcToken: { type: 'openIdConnect', openIdConnectUrl: `${issuer}/.well-known/openid-configuration` }
  })
  const { '/open': open, '/maybe': maybe, '/mail/{id}': mail, '/jobs': jobs, '/own': own } = document.paths
  t.same([open?.['get']?.security, maybe?.['get']?.security], [undefined, undefined])
  t.same(Object.keys(open?.['get']?.responses ?? {}), ['200'])
  t.same(mail?.['get']?.security, [{ oidcSession: ['email', 'mail:read'] }, { oidcToken: ['email', 'mail:read'] }])
  t.match(mail?.['get'], {
    summary: 'mail',
    responses: { 200: {}, 401: { description: /session or access token/ }, 403: {} }
  })
  t.same(jobs?.['post']?.security, [{ oidcToken: ['jobs'] }])
  t.same(own?.['get']?.security, [], 'the security of the route itself is kept')
  t.match(own?.['get']?.responses, { 401: { description: 'mine' } })
  t.notMatch(JSON.stringify(document), /x-oidc/)
  t.equal(app.swagger(), document as never, 'the document is built once')
  t.match(app.swagger({ yaml: true }), /openapi: /)
  const answer = await app.inject('/mail/1')
  t.match(
    [answer.statusCode, answer.json()],
    [401, { code: 'FST_OIDC_LOGIN_REQUIRED', login: `${BASE_URL}/auth/login` }],
    'the responses are unchanged'
  )
  t.same(
    (
      await app.inject({ url: '/mail/1', headers: { cookie: sessionCookie(app, { scope: 'email mail:read' }) } })
    ).json(),
    { ok: true }
  )
})

t.test('the OpenAPI document follows the options, and @fastify/swagger is optional', async (t) => {
  const { app } = await start(t)
  const document = app.swagger() as unknown as Document
  t.same(Object.keys(document.components.securitySchemes ?? {}), ['oidcSession'])
  t.same(document.paths['/jobs']?.['post']?.security, [{ oidcSession: [] }])
  const one = { issuer: 'https://id.example.com', clientId: 'web' }
  const app2 = Fastify()
  t.teardown(async () => await app2.close())
  await app2.register(async (scope) => {
    await scope.register(swagger, {
      openapi: {
        components: { securitySchemes: { oidcToken: { type: 'http', scheme: 'bearer', description: 'mine' } } }
      }
    })
    await scope.register(oidc, {
      baseUrl: BASE_URL,
      session: { secret: 'x'.repeat(32) },
      providers: { one, two: { ...one, issuer: 'https://other.example.com' } },
      bearer: { audience: 'x' }
    })
    scope.get('/guarded', { preHandler: scope.oidc.required() }, async () => ({}))
    scope.addHook('onReady', async () => {
      t.match((scope.swagger() as unknown as Document).components.securitySchemes, {
        oidcSession: {},
        oidcToken: { description: 'mine' }
      })
    })
  })
  await app2.ready()
  const { app: plain } = await startApp(t)
  await plain.ready()
  t.notOk(plain.hasDecorator('swagger'))
})

t.test('a static OpenAPI document is completed as well', async (t) => {
  const { app } = await start(
    t,
    {},
    {
      mode: 'static',
      specification: {
        document: { openapi: '3.0.3', info: { title: 'x', version: '1' }, paths: { '/x': { get: {} } } }
      }
    }
  )
  t.match(app.swagger(), { paths: { '/x': { get: {} } }, components: { securitySchemes: { oidcSession: {} } } })
})

t.test('K17 routes that a hook of their scope guards are described as well', async (t) => {
  const { provider } = await startApp(t)
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(swagger, { openapi: { info: { title: 'API', version: '1' } } })
  await app.register(oidc, optionsFor(provider, { bearer: { audience: 'https://api.example.com' } }))
  const { required, optional } = app.oidc
  app.get('/open', async () => ({}))
  app.addHook('onRequest', optional())
  await app.register(async (scope) => {
    scope.get('/before', async () => ({}))
    scope.addHook('preHandler', required({ scopes: 'mail:read' }))
    scope.get('/read', async () => ({}))
    scope.get('/write', { preHandler: required({ scopes: 'mail:write', accept: ['session', 'bearer', 'client'] }) }, async () => ({}))
    scope.get('/own', { schema: { security: [] } }, async () => ({}))
    scope.get('/session', { preValidation: required({ accept: ['session'] }) }, async () => ({}))
    await scope.register(async (child) => {
      child.get('/child', async () => ({}))
    })
    await scope.register(async (child) => {
      child.addHook('preValidation', required({ accept: ['client'], scopes: 'jobs' }))
      child.get('/jobs', async () => ({}))
      child.get('/nothing', { preHandler: required({ accept: ['session'] }) }, async () => ({}))
    })
  })
  await app.register(async (scope) => { scope.get('/sibling', async () => ({})) })
  await app.ready()
  const { paths } = app.swagger() as unknown as Document
  const securityOf = (path: string): unknown => paths[path]?.['get']?.security
  const both = (...scopes: string[]): unknown => [{ oidcSession: scopes }, { oidcToken: scopes }]
  t.same(Object.fromEntries(Object.keys(paths).map((path) => [path, securityOf(path)])), {
    '/open': undefined,
    '/before': both('mail:read'),
    '/read': both('mail:read'),
    '/write': both('mail:read', 'mail:write'),
    '/own': [],
    '/session': [{ oidcSession: ['mail:read'] }],
    '/child': both('mail:read'),
    '/jobs': [{ oidcToken: ['jobs', 'mail:read'] }],
    '/nothing': [{ oidcSession: ['mail:read'] }],
    '/sibling': undefined
  }, 'and no route of the plugin')
  t.match(paths['/child']?.['get']?.responses, { 401: {}, 403: {} })
  t.equal((await app.inject('/child')).statusCode, 401, 'they are guarded')
})

t.test('what routes say in their config is described', async (t) => {
  const { provider } = await startApp(t)
  const app = Fastify()
  t.teardown(async () => await app.close())
  const securitySchemes = { oidcSession: { type: 'apiKey', in: 'cookie', name: '__Host-oidc' } } as const
  await app.register(swagger, {
    openapi: { info: { title: 'API', version: '1' }, security: [{ oidcSession: [] }], components: { securitySchemes } }
  })
  await app.register(oidc, optionsFor(provider, { bearer: { audience: 'https://api.example.com' } }))
  const { required, optional } = app.oidc
  app.addHook('onRequest', required({ scopes: 'mail:read' }))
  app.get('/public', { config: { oidc: false } }, async () => ({}))
  app.get('/own', { config: { oidc: false }, preHandler: required({ scopes: 'own' }) }, async () => ({}))
  app.get('/greet', { config: { oidc: false }, preHandler: optional() }, async () => ({}))
  app.get('/write', { config: { oidc: { scopes: 'mail:write', accept: ['session'] } } }, async () => ({}))
  await app.ready()
  const { paths } = app.swagger() as unknown as Document
  const of = (path: string): unknown => [paths[path]?.['get']?.security, Object.keys(paths[path]?.['get']?.responses ?? {})]
  t.same(Object.fromEntries(Object.keys(paths).map((path) => [path, of(path)])), {
    '/public': [[], ['200']],
    '/own': [[{ oidcSession: ['own'] }, { oidcToken: ['own'] }], ['200', '401', '403']],
    '/greet': [[], ['200']],
    '/write': [[{ oidcSession: ['mail:read', 'mail:write'] }], ['200', '401', '403']]
  })
})

t.test('conditions of a route are described where its guard is optional', async (t) => {
  const { provider } = await startApp(t)
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(swagger, { openapi: { info: { title: 'API', version: '1' } } })
  await app.register(oidc, optionsFor(provider))
  app.addHook('onRequest', app.oidc.optional())
  app.get('/maybe', async () => ({}))
  app.get('/me', { config: { oidc: {} } }, async () => ({}))
  await app.ready()
  const { paths } = app.swagger() as unknown as Document
  t.equal(paths['/maybe']?.['get']?.security, undefined)
  t.same(paths['/me']?.['get']?.security, [{ oidcSession: [] }])
})

t.test('S83 the guards of a scope are in the document of the application around it', async (t) => {
  const { provider } = await startApp(t)
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(swagger, { openapi: { info: { title: 'API', version: '1' } } })
  await app.register(async (scope) => {
    await scope.register(oidc, optionsFor(provider))
    scope.get('/mail', { preHandler: scope.oidc.required() }, async () => ({}))
  })
  await app.ready()
  const { components, paths } = app.swagger() as unknown as Document
  t.same(Object.keys(components.securitySchemes ?? {}), ['oidcSession'])
  t.same(paths['/mail']?.['get']?.security, [{ oidcSession: [] }])
})
