import { findUser } from './context.ts'
import { isUser } from './sso-session.ts'
import type { AuthorizationError, Params } from './authorization-request.ts'
import type { Context } from './context.ts'
import type { Approval, ProviderUser } from './options.ts'

const proposedUser = (context: Context, { login_hint }: Params): ProviderUser =>
  context.users.find((user) => login_hint !== undefined && isUser(user, login_hint)) ?? findUser(context)

type Decision = { user: ProviderUser } | { problem: AuthorizationError }

const approvedUser = (context: Context, user: ProviderUser, approval: Approval | void): Decision => {
  if (approval === false) return { problem: { error: 'access_denied', error_description: 'the user denied the request' } }
  if (typeof approval === 'string') return { user: findUser(context, approval) }
  if (typeof approval !== 'object') return { user }
  return 'error' in approval ? { problem: approval as AuthorizationError } : { user: approval as ProviderUser }
}

/** Asks the option `approve` in place of the user. */
export const askUser = async (context: Context, params: Params): Promise<Decision> => {
  const user = proposedUser(context, params)
  return approvedUser(context, user, await context.options.approve?.(params, user))
}
