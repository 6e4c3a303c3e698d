import { now, random, words } from './context.ts'
import type { Params } from './authorization-request.ts'
import type { Context, Exchange, SsoSession } from './context.ts'
import type { ProviderClient, ProviderUser } from './options.ts'

/** The name of the cookie. It contains the port, because the cookies of a host are shared by all its ports. */
export const ssoCookie = ({ provider }: Context): string => `op_session_${provider.port}`

/** The single sign-on session of the browser. */
export const findSession = ({ context, request }: Exchange): [string, SsoSession] | undefined => {
  const prefix = `${ssoCookie(context)}=`
  const pairs = String(request.headers.cookie ?? '').split('; ')
  const id = pairs.find((pair) => pair.startsWith(prefix))?.slice(prefix.length)
  const session = context.sessions.get(id ?? '')
  return session && [id!, session]
}

export const isUser = (user: ProviderUser, hint: string): boolean =>
  [user.sub, user.email, user.preferred_username].includes(hint)

// Whether the request requires a new authentication (OpenID Connect Core 1.0, section 3.1.2.1)
export const isStale = (session: SsoSession, { prompt, max_age, login_hint, acr_values }: Params): boolean => {
  if (words(prompt).some((value) => value === 'login' || value === 'select_account')) return true
  if (max_age !== undefined && now() - session.auth_time > Number(max_age)) return true
  if (login_hint && !isUser(session.user, login_hint)) return true
  return acr_values !== undefined && !words(acr_values).includes(session.acr)
}

export interface Login {
  id: string
  session: SsoSession
}

type Found = [id: string, session: SsoSession] | undefined

// When the same user authenticates again, the `sid` stays the same
export const newSession = (context: Context, user: ProviderUser, { acr_values }: Params, old: Found): Login => {
  const id = random()
  const { sid, clients } = old?.[1].user === user ? old[1] : { sid: random(), clients: new Set<ProviderClient>() }
  if (old) context.sessions.delete(old[0])
  const session = { sid, user, auth_time: now(), acr: words(acr_values)[0] ?? String(user.acr ?? '1'), clients }
  context.sessions.set(id, session)
  return { id, session }
}

/** The header that gives the browser its session. */
export const sessionCookie = (context: Context, id: string): Record<string, string> => {
  const sameSite = context.options.tls ? 'None; Secure' : 'Lax'
  return { 'set-cookie': `${ssoCookie(context)}=${id}; Path=/; HttpOnly; SameSite=${sameSite}` }
}
