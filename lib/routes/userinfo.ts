import type { Oidc } from '../../types/fastify.ts'
import type { Endpoint } from './index.ts'

/** `GET userinfo`: the claims of the person that the provider has now. */
export function userinfoEndpoint (oidc: Oidc): Endpoint {
  return {
    async GET (request) {
      return await oidc.userinfo(request)
    }
  }
}
