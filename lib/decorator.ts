import { createBrokerAdmin } from './broker/admin.ts'
import { createHealth } from './health.ts'
import { keepUncached } from './http/headers.ts'
import { parseLoginOptions } from './login/login-parameters.ts'
import { createSessionAdmin } from './logout/session-admin.ts'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Parts } from './compose.ts'
import type { Oidc } from '../types/fastify.ts'

/** `app.oidc` */
export function createOidc (parts: Parts): Oidc {
  const oidc: Oidc = {
    ...parts.guards,
    accessToken: parts.accessToken,
    userinfo: parts.userinfo,
    updateUser: parts.updateUser,
    login: createLoginFunction(parts),
    logout: createLogoutFunction(parts),
    sessions: createSessionAdmin(parts),
    broker: createBrokerAdmin(parts.broker),
    health: createHealth(parts)
  }
  partsByOidc.set(oidc, parts)
  return oidc
}

function createLoginFunction ({ login, providers, urls }: Pick<Parts, 'login' | 'providers' | 'urls'>): Oidc['login'] {
  return async (request, reply, options = {}) => {
    const { provider: name } = options
    const returnTo = urls.returnTo(options.returnTo)
    const parameters = parseLoginOptions(options)
    const provider = name === undefined ? await providers.ofRequest(request) : await providers.get(request, name)
    if (provider === null) login.choose(request, reply, { ...parameters, returnTo })
    else await login.start(provider, request, reply, { ...parameters, returnTo })
    return reply
  }
}

function createLogoutFunction ({ logout, urls }: Pick<Parts, 'logout' | 'urls'>): Oidc['logout'] {
  return async (request, reply, { returnTo, federated = true } = {}) => {
    await logout(request, reply, { returnTo: urls.returnTo(returnTo), federated })
    return reply
  }
}

/** Adds `app.oidc`, and the properties that the guards set on a request. */
export function decorate (app: FastifyInstance, oidc: Oidc, { sessions, pendingLogins }: Parts): void {
  app.decorate('oidc', oidc)
  app.decorateRequest('oidcClaims', null)
  app.decorateRequest('oidcUser', null)
  app.decorateRequest('oidcSession', null)
  app.decorateRequest('oidcToken', null)
  app.decorateRequest(sessions.key, null)
  app.addHook('onSend', (request, reply, _payload, done) => {
    const bytes = sessions.finish(request, reply)
    if (bytes > 0) pendingLogins.fit(request, reply, bytes)
    const isPersonal = sessions.preventCaching(request, reply)
    // Nothing runs after the hooks of the application in its handler for unknown routes.
    if (isPersonal && request.is404) keepUncached(reply)
    done()
  })
  // Again after the route's own hooks and those that the application adds later: they may set headers for caches.
  app.addHook('onRoute', (route) => { route.onSend = [route.onSend ?? [], preventCaching].flat() })

  function preventCaching (request: FastifyRequest, reply: FastifyReply, _payload: unknown, done: () => void): void {
    sessions.preventCaching(request, reply)
    done()
  }
}

const partsByOidc = new WeakMap<Oidc, Parts>()

/** The parts behind `app.oidc`, for the test kit. */
export function partsOf (oidc: Oidc): Parts {
  return partsByOidc.get(oidc) as Parts
}
