import { callHook, runReplyHook } from '../http/run-hook.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Settings } from '../options/settings.ts'
import type { SourcedClaims } from '../provider/claim-sources.ts'
import type { Provider } from '../provider/provider.ts'
import type { TokenSet } from '../provider/token-request.ts'
import type { UserClaims } from '../session/user-claims.ts'
import type { IdTokenClaims, OidcUser } from '../../types/claims.ts'

/** A login that the application has accepted. */
export interface AcceptedLogin extends SourcedClaims {
  user: OidcUser | null
}

export interface AcceptContext {
  returnTo: string
  request: FastifyRequest
  reply: FastifyReply
}

/**
 * Asks the application whether it accepts the user of a login. `null` when `onClaims` has replied itself.
 * Throws FST_OIDC_CLAIMS when the application refuses, and FST_OIDC_UNEXPECTED when its hook fails.
 */
export type AcceptLogin = (
  provider: Provider,
  tokenSet: TokenSet & { claims: IdTokenClaims },
  context: AcceptContext
) => Promise<AcceptedLogin | null>

export interface AcceptLoginParts {
  onClaims: Settings['onClaims']
  userClaims: UserClaims
}

export function createAcceptLogin ({ onClaims, userClaims }: AcceptLoginParts): AcceptLogin {
  return async (provider, tokenSet, context) => {
    const { tokens } = tokenSet
    const { all, kept } = await userClaims.read(provider, tokenSet)
    const userinfo = async () => await userClaims.userinfo(provider, tokens, all)
    const callOnClaims = () => onClaims?.(all, { provider: provider.name, tokens, userinfo, ...context })
    const { result: user, replied } = await callHook('onClaims', async () => {
      return await runReplyHook(context.reply, callOnClaims)
    })
    return replied ? null : { ...kept, user: user ?? null }
  }
}
