import { askUserinfo, parseClaims, readClaims } from './claims.ts'
import { callHook, runReplyHook } from '../http/run-hook.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { Provider, TokenSet } from '../provider/provider.ts'
import type { IdTokenClaims, OidcClaims, OidcUser } from '../../types/claims.ts'
import type { ClaimsContext } from '../../types/options.ts'

/** A login that the application has accepted. */
export interface AcceptedLogin {
  claims: OidcClaims
  user: OidcUser | null
}

export interface AcceptContext {
  returnTo: string
  request: FastifyRequest
  reply: FastifyReply
}

/**
 * Asks the application about a person whom the provider has named; `null` when it has answered the request
 * itself. Throws FST_OIDC_CLAIMS when it refuses.
 */
export async function acceptLogin (
  core: Core,
  provider: Provider,
  { tokens, claims: idTokenClaims }: TokenSet & { claims: IdTokenClaims },
  context: AcceptContext
): Promise<AcceptedLogin | null> {
  const userinfo: ClaimsContext['userinfo'] = async () => await askUserinfo(core, provider, tokens, idTokenClaims)
  const all = await readClaims(core, provider, tokens, idTokenClaims)
  const claims = await parseClaims(core, all)
  const { result: user, replied } = await callHook(
    'onClaims',
    async () =>
      await runReplyHook(context.reply, () =>
        core.settings.onClaims?.(all, { provider: provider.name, tokens, userinfo, ...context })
      )
  )
  return replied ? null : { claims, user: user ?? null }
}
