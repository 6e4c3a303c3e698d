import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Params } from '../../http/params.ts'
import type { Granted } from '../token-response.ts'

/** One way to get tokens (RFC 6749, section 1.3). */
export interface GrantType {
  grantType: string
  /** The required parameters. */
  parameters: string[]
  /** `null` when the application has replied itself. Throws FST_OIDC_GRANT. */
  handle: (context: GrantContext) => Promise<Granted | null>
}

export interface GrantContext {
  params: Params
  clientId: string | undefined
  request: FastifyRequest
  reply: FastifyReply
}
