import { decodeJwt } from 'jose'
import { createProvider } from '../provider/provider.ts'
import { askSilently } from './ask-silently.ts'
import { serveLogins } from './login.ts'
import { detailOf, finding } from './report.ts'
import { adviseRoles, findRoles } from './roles.ts'
import { shownClaims } from './shown-claims.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { OidcError } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Connections } from '../provider/connections.ts'
import type { Provider } from '../provider/provider.ts'
import type { Logins, LoginServer, Step } from './login.ts'
import type { Finding, LoginReport } from './report.ts'
import type { Sources } from './roles.ts'
import type { IdTokenClaims } from '../../types/claims.ts'
import type { ClaimsContext, OidcOptions, ProviderMetadata } from '../../types/options.ts'

export interface TriedLogin {
  login: LoginReport | null
  findings: Finding[]
}

export interface LoginParts extends Pick<LoginServer, 'port' | 'wait'> {
  options: OidcOptions
  settings: ProviderSettings
  roleClaims: readonly string[]
  clientSecret: string | undefined
  redirectUri: string
  tell: (line: string) => void
  log: FastifyBaseLogger
  connections: Connections
}

/** What the first login gave. */
interface User {
  idToken: IdTokenClaims
  userinfo: object | null
  accessToken: object | null
  /** Whether the plugin accepts the access token for roles. */
  isOwn: boolean
  secrets: string[]
  findings: Finding[]
}

/** Logs in with a browser, and says what comes of it. */
export async function tryLogin (metadata: ProviderMetadata, parts: LoginParts): Promise<TriedLogin> {
  const { options, settings, port, wait, clientSecret, redirectUri, tell, log, connections } = parts
  const provider = createProvider({ ...settings, metadata, needsDiscovery: false }, log, connections)
  const silent = await askSilently(provider, metadata, { redirectUri, connections })
  let user: User | undefined
  let logins: Logins
  try {
    logins = await serveLogins({
      options,
      port,
      wait,
      open (url) {
        tell(`Open this address in a browser, and log in: ${url}`)
        tell(`The redirect URI ${redirectUri} must be registered. The provider may ask you twice: it is asked to.`)
      },
      async onLogin (claims, context) {
        user = await readUser(provider, metadata, claims, context, clientSecret)
      }
    })
  } catch (error) {
    return { login: null, findings: [...silent.findings, cannotServe(error as Error)] }
  }
  const problem = loginProblem(logins, redirectUri, wait)
  return problem === undefined
    ? reportOf(user as unknown as User, silent, logins, parts) // a login that succeeds has set it
    : { login: null, findings: [...silent.findings, problem] }
}

async function readUser (
  provider: Provider,
  metadata: ProviderMetadata,
  claims: IdTokenClaims,
  { tokens, userinfo }: ClaimsContext,
  clientSecret: string | undefined
): Promise<User> {
  const findings: Finding[] = []
  const { access_token: accessToken, refresh_token: refreshToken, id_token: idToken } = tokens
  const answer = metadata.userinfo_endpoint === undefined
    ? null
    : await userinfo().catch((error: OidcError) => {
      findings.push(finding(
        'warning', 'userinfo_failed',
        `UserInfo: ${detailOf(error)}`,
        'Do not set "userinfo", and leave it out of "rolesFrom", until this works'
      ))
      return null
    })
  const payload = payloadOf(accessToken)
  const problem = payload === null
    ? undefined
    : await provider.verifyOwnAccessToken(accessToken, claims.sub).then(() => undefined, detailOf)
  if (problem !== undefined) {
    findings.push(finding(
      'note', 'access_token_not_used',
      `the access token is a JWT, but no roles can be taken from it: ${problem}`,
      'Leave access_token out of "rolesFrom"'
    ))
  }
  const secrets = [accessToken, refreshToken, idToken, clientSecret].filter((text) => text !== undefined)
  return { idToken: claims, userinfo: answer, accessToken: payload, isOwn: problem === undefined, secrets, findings }
}

function payloadOf (token: string): object | null {
  try {
    return decodeJwt(token)
  } catch {
    return null
  }
}

function loginProblem ({ results, lastError }: Logins, redirectUri: string, wait: number): Finding | undefined {
  const first = results.get('login')
  if (first === undefined) {
    const reason = lastError === undefined ? '' : `; the last error: ${lastError.code}: ${detailOf(lastError)}`
    return finding(
      'error', 'login_timeout',
      `no login came to its end within ${wait} s${reason}`,
      `If the provider showed an error, register ${redirectUri} there. --wait gives more time`
    )
  }
  if (!('error' in first)) return undefined
  const { error } = first
  return finding(
    'error', 'login_failed',
    `${error.code}: ${detailOf(error)}`,
    `The message says what to change; docs/errors.md has more about ${error.code}`
  )
}

function cannotServe (error: Error): Finding {
  const { code, message } = error as NodeJS.ErrnoException
  return finding('error', 'login_not_served', `the login cannot be served: ${message}`, code === 'FST_OIDC_OPTION'
    ? 'Give a --base-url with https that a proxy or tunnel passes on to --port'
    : 'Choose another port by --port or --base-url, and register its redirect URI')
}

function reportOf (
  user: User,
  silent: { answer: string, findings: Finding[] },
  logins: Logins,
  { roleClaims, settings: { clientId } }: LoginParts
): TriedLogin {
  const { idToken, userinfo, accessToken, isOwn, secrets } = user
  const sources = ([
    ['id_token', idToken], ['userinfo', userinfo], ['access_token', isOwn ? accessToken : null]
  ] as const).filter(([, claims]) => claims !== null) as unknown as Sources
  const roles = findRoles(sources, clientId)
  const loggedIn = judge('promptNone', logins, idToken)
  const maxAge = judge('maxAge', logins, idToken)
  const shown = (claims: object | null): LoginReport['userinfo'] => {
    return claims === null ? null : shownClaims(claims, secrets)
  }
  return {
    login: {
      idToken: shownClaims(idToken, secrets),
      userinfo: shown(userinfo),
      accessToken: shown(accessToken),
      roles,
      promptNone: { anonymous: silent.answer, loggedIn: loggedIn.answer },
      maxAge: maxAge.answer
    },
    findings: [
      ...user.findings, ...silent.findings, adviseRoles(roles, roleClaims), ...leftOut(idToken),
      ...loggedIn.findings, ...maxAge.findings
    ]
  }
}

// OpenID Connect Core 1.0, section 5.6.2: Entra ID does this with many groups.
function leftOut ({ _claim_names: names }: IdTokenClaims): Finding[] {
  return names === undefined
    ? []
    : [finding(
        'note', 'claims_left_out',
        'the ID token leaves out claims, by _claim_names',
        'Above 200 groups, Entra ID writes none into the token: use app roles'
      )]
}

interface Judgement {
  answer: string
  findings: Finding[]
}

/** Whether the provider asked the user shows in `auth_time`, by the clock of the provider alone. */
function judge (step: Exclude<Step, 'login'>, { results }: Logins, { iat }: IdTokenClaims): Judgement {
  const result = results.get(step)
  if (result === undefined) return { answer: 'not reached', findings: [] }
  if ('error' in result) return FAILED[step](detailOf(result.error))
  const { auth_time: authTime } = result.claims
  const hasAsked = typeof authTime === 'number' && authTime > iat
  return ANSWERED[step](hasAsked)
}

const ANSWERED: Record<Exclude<Step, 'login'>, (hasAsked: boolean) => Judgement> = {
  promptNone: (hasAsked) => hasAsked
    ? {
        answer: 'asked the user',
        findings: [finding(
          'warning', 'prompt_none',
          'the provider ignores prompt=none, and asked the user',
          'Do not use "silent" in guards'
        )]
      }
    : { answer: 'logged the user in', findings: [] },
  maxAge: (hasAsked) => hasAsked
    ? { answer: 'asked the user again', findings: [] }
    : {
        answer: 'ignored',
        findings: [finding(
          'warning', 'max_age_ignored',
          'the provider ignores max_age',
          'Guards with "maxAge" ask once more, with prompt=login; a provider that ignores that too cannot be used ' +
        'for them'
        )]
      }
}

const FAILED: Record<Exclude<Step, 'login'>, (detail: string) => Judgement> = {
  promptNone: (detail) => ({
    answer: detail,
    findings: [finding(
      'note', 'prompt_none_refused',
      `the provider refuses prompt=none also for a user who is logged in there: ${detail}`,
      '"silent" in guards logs nobody in'
    )]
  }),
  maxAge: (detail) => ({
    answer: detail,
    findings: [finding(
      'warning', 'max_age_failed',
      `max_age: ${detail}`,
      'Do not use "maxAge" in guards until this works. If the provider did ask you again, and only auth_time is ' +
      'missing, set "authTime" to optional'
    )]
  })
}
