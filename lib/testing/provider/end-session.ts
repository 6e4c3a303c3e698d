import { decodeJwt } from 'jose'
import { escapeHtml, html, redirect } from './answer.ts'
import { findSession, ssoCookie } from './sso-session.ts'
import { words } from './context.ts'
import { change } from './fault-effects.ts'
import type { JWTPayload } from 'jose'
import type { Answer } from './answer.ts'
import type { Context, Exchange, SsoSession } from './context.ts'
import type { ProviderClient } from './options.ts'

// A hint may be expired, but this provider must have issued it (OpenID Connect RP-Initiated Logout 1.0, section 2)
const readHint = ({ idTokens }: Context, hint: string | undefined): JWTPayload | undefined =>
  hint === undefined ? {} : idTokens.has(hint) ? decodeJwt(hint) : undefined

const badPage = (text: string): Answer => html(`<p>${escapeHtml(text)}</p>`, 400)

const sessionBySid = ({ sessions }: Context, sid: unknown): [string, SsoSession] | undefined =>
  [...sessions].find(([, session]) => session.sid === sid)

const isRegistered = (client: ProviderClient, uri: string): boolean =>
  client.post_logout_redirect_uris?.includes(uri) ?? URL.canParse(uri)

// OpenID Connect Back-Channel Logout 1.0, section 2.5. The browser does not wait for the responses.
const notify = ({ provider }: Context, { sid, user, clients }: SsoSession): void => {
  for (const { client_id, backchannel_logout_uri } of clients) {
    if (!backchannel_logout_uri) continue
    provider.sendLogoutToken(backchannel_logout_uri, { client_id, sid, sub: user.sub }).catch(() => {})
  }
}

const frames = ({ issuer }: Context, { sid, clients }: SsoSession): string => [...clients]
  .flatMap(({ frontchannel_logout_uri: uri }) => uri ? [new URL(uri)] : [])
  .map((url) => {
    url.searchParams.set('iss', issuer)
    url.searchParams.set('sid', sid)
    return `<iframe src="${escapeHtml(url.href)}"></iframe>`
  }).join('')

// Without offline_access, a refresh token ends with the session
const endGrants = ({ accessTokens, refreshTokens }: Context, { sid }: SsoSession): void => {
  for (const { grant } of [...accessTokens.values(), ...refreshTokens.values()]) {
    if (grant.sid === sid && !words(grant.scope).includes('offline_access')) grant.revoked = true
  }
}

const endSession = (context: Context, [id, session]: [string, SsoSession]): string => {
  context.sessions.delete(id)
  endGrants(context, session)
  notify(context, session)
  return frames(context, session)
}

const returnUrl = ({ faults }: Exchange, uri: string, state: string | undefined): string => {
  const params = new URLSearchParams(state === undefined ? {} : { state })
  const changed = faults.reduce((value, fault) => change(value, fault.logoutResponse), params)
  return changed.size > 0 ? `${uri}${uri.includes('?') ? '&' : '?'}${changed}` : uri
}

const finish = (exchange: Exchange, uri: string | undefined, state: string | undefined, framed: string): Answer => {
  const headers = { 'set-cookie': `${ssoCookie(exchange.context)}=; Path=/; Max-Age=0` }
  const target = uri && returnUrl(exchange, uri, state)
  if (target && !framed) return redirect(target, headers)
  const link = target ? `<a href="${escapeHtml(target)}">Go back</a>` : ''
  return html(`<p>You are logged out.</p>${framed}${link}`, 200, headers)
}

/** The end-session endpoint (OpenID Connect RP-Initiated Logout 1.0, section 2). */
export const endSessionEndpoint = (exchange: Exchange): Answer => {
  const { context, request } = exchange
  const params = request.method === 'POST' ? request.body : request.query
  const hint = readHint(context, params.id_token_hint)
  if (!hint) return badPage('id_token_hint was not issued here')
  const client = context.clients.find(({ client_id }) => client_id === (params.client_id ?? hint.aud))
  const uri = params.post_logout_redirect_uri
  if (uri && !(client && isRegistered(client, uri))) return badPage('post_logout_redirect_uri is not registered')
  const session = sessionBySid(context, hint.sid) ?? findSession(exchange)
  return finish(exchange, uri, params.state, session ? endSession(context, session) : '')
}
