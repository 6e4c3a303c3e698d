/**
 * Users and roles in a database of the application.
 *
 * The provider says who the user is; the application says what the user may do. `onClaims` runs at each login, creates
 * the user by `iss` and `sub`, and refuses users that are blocked. The first user becomes the administrator. Roles are
 * read from the database with each request (`check`), so a change counts at once; a user who is blocked is logged out.
 *
 * To use it, copy this folder and `npm install fastify @fastify/formbody @fastify/view eta fastify-oidc`. The database
 * is `new DatabaseSync('users.db')` of `node:sqlite` (Node.js 22.13 or newer), or one of better-sqlite3.
 */
import { join } from 'node:path'
import formbody from '@fastify/formbody'
import view from '@fastify/view'
import { Eta } from 'eta'
import Fastify from 'fastify'
import oidc, { refuse } from 'fastify-oidc'
import { createUsers } from './users.ts'
import type { Database } from 'better-sqlite3'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { OidcOptions } from 'fastify-oidc'
import type { User } from './users.ts'

/** `options` are those of the quick start: the provider, the client, `baseUrl` and `session`. */
export async function buildApp (
  options: OidcOptions,
  database: Database,
  server: FastifyServerOptions = { logger: true }
): Promise<FastifyInstance> {
  const app = Fastify(server)
  const users = createUsers(database)
  await app.register(formbody)
  await app.register(view, { engine: { eta: new Eta() }, root: join(import.meta.dirname, 'views') })
  await app.register(oidc, {
    ...options,
    onClaims: async (claims, { userinfo }): Promise<User> => {
      const { name } = await userinfo()
      const user = users.logIn(claims, String(name ?? claims.sub))
      if (user === null) throw refuse('Your account is blocked.')
      return user
    }
  })

  app.get('/', { preHandler: app.oidc.optional() }, async ({ oidcUser, oidcClaims }, reply) =>
    await reply.viewAsync('home.eta', {
      user: oidcUser,
      isAdmin: oidcClaims !== null && users.hasRole(oidcClaims, 'admin')
    }))

  // Everything below /admin is for administrators. `check` asks the database, not the session.
  await app.register(async (admin) => {
    admin.addHook('preHandler', app.oidc.required({ check: (claims) => users.hasRole(claims, 'admin') }))

    admin.get('/', async (_request, reply) => await reply.viewAsync('admin.eta', { members: users.list() }))

    admin.post('/users/:id', { schema: CHANGE }, async (request, reply) => {
      const { id } = request.params as { id: number }
      const { change } = request.body as { change: Change }
      CHANGES[change](id)
      const member = users.list().find((user) => user.id === id)
      if (member?.isBlocked === 1) await app.oidc.sessions.revoke({ sub: member.sub })
      return await reply.redirect('/admin', 303)
    })
  }, { prefix: '/admin' })

  const CHANGES: Record<Change, (id: number) => void> = {
    'make admin': (id) => users.giveRole(id, 'admin'),
    'no longer admin': (id) => users.takeRole(id, 'admin'),
    block: (id) => users.setBlocked(id, true),
    unblock: (id) => users.setBlocked(id, false)
  }

  return app
}

type Change = 'make admin' | 'no longer admin' | 'block' | 'unblock'

const CHANGE = {
  params: { type: 'object', properties: { id: { type: 'integer' } } },
  body: {
    type: 'object',
    required: ['change'],
    properties: { change: { enum: ['make admin', 'no longer admin', 'block', 'unblock'] } }
  }
}
