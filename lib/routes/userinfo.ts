import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Core } from '../core.ts'
import type { UserinfoClaims } from '../../types/claims.ts'

/** `GET userinfo`: the provider's current claims of the person. */
export function userinfoRoute (scope: FastifyInstance, _core: Core, path: string, userinfo: (request: FastifyRequest) => Promise<UserinfoClaims>): void {
  scope.get(path, async (request) => await userinfo(request))
}
