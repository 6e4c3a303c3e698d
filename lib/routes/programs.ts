import { authorizationServerPaths } from '../http/urls.ts'
import { authorizationServerEndpoint } from './authorization-server.ts'
import { deviceEndpoint } from './device.ts'
import { serve, servePublic } from './endpoint.ts'
import { introspectionEndpoint } from './introspection.ts'
import { jwksEndpoint } from './jwks.ts'
import { revocationEndpoint } from './revocation.ts'
import { tokenEndpoint } from './token.ts'
import type { FastifyInstance } from 'fastify'
import type { Parts } from '../compose.ts'

/**
 * Adds the endpoints that programs call, without cookies. Only an application that has one of them loads this file.
 * `prefix` is that of the plugin.
 */
export function servePrograms (scope: FastifyInstance, parts: Parts, prefix: string): void {
  const { broker, settings: { tokenRoutes: { token, device, revoke, introspect, jwks } } } = parts
  if (token !== null) serve(scope, token, tokenEndpoint(parts))
  if (device !== null) serve(scope, device, deviceEndpoint(parts))
  if (broker === undefined) return
  const { issuer, resourceServers } = broker.settings
  if (revoke !== null) serve(scope, revoke, revocationEndpoint(parts, broker))
  if (introspect !== null && resourceServers.size > 0) serve(scope, introspect, introspectionEndpoint(parts, broker))
  if (jwks !== null) servePublic(scope, jwks, jwksEndpoint(broker))
  const paths = authorizationServerPaths(parts.settings, issuer, prefix)
  for (const path of paths) servePublic(scope, path, authorizationServerEndpoint(parts, broker))
}
