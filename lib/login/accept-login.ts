import { printable } from '../http/params.ts'
import { callHook, runReplyHook } from '../http/run-hook.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Urls } from '../http/urls.ts'
import type { Settings } from '../options/settings.ts'
import type { SourcedClaims } from '../provider/claim-sources.ts'
import type { Provider } from '../provider/provider.ts'
import type { TokenSet } from '../provider/token-request.ts'
import type { UserClaims } from '../session/user-claims.ts'
import type { IdTokenClaims, OidcUser } from '../../types/claims.ts'

/** A login that the application has accepted. */
export interface AcceptedLogin {
  /** The claims that are kept. */
  kept: SourcedClaims
  user: OidcUser | null
  /** Where the browser goes: `onClaims` may have chosen another address. The login of a program has no use for it. */
  returnTo: string
}

export interface AcceptContext {
  returnTo: string
  /** What the application gave to the login. */
  appState?: unknown
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
  urls: Pick<Urls, 'safe'>
}

export function createAcceptLogin ({ onClaims, userClaims, urls }: AcceptLoginParts): AcceptLogin {
  // Another address than one of the application is a fault of its code: the stack in the log names the line.
  function checkTarget (target: unknown): string {
    const url = urls.safe(target)
    if (url === null) throw new TypeError(`redirectTo: ${printable(String(target))} is not on the origin of "baseUrl"`)
    return url
  }

  return async (provider, tokenSet, { appState, ...context }) => {
    const { tokens } = tokenSet
    const { all, kept } = await userClaims.read(provider, tokenSet)
    const userinfo = async () => await userClaims.userinfo(provider, tokens, all)
    let { returnTo } = context
    const redirectTo = (target: string): void => { returnTo = checkTarget(target) }
    const callOnClaims = () => {
      return onClaims?.(all, { provider: provider.name, tokens, userinfo, appState, redirectTo, ...context })
    }
    const { result: user, replied } = await callHook('onClaims', async () => {
      return await runReplyHook(context.reply, callOnClaims)
    })
    return replied ? null : { kept, user: user ?? null, returnTo }
  }
}
