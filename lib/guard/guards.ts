import { OidcError, reasonOf } from '../errors.ts'
import { isForOwnRoute } from '../http/own-routes.ts'
import { bool, check, checkKeys } from '../options/check.ts'
import { isPlainRecord } from '../util/json.ts'
import { acceptsTokens, bothConstraints, parseConstraints } from './constraints.ts'
import { rememberGuard } from './guarded-routes.ts'
import { createHandler, withPredicate } from './proceed.ts'
import { isExempt, ruleOf, unreadError } from './route-rules.ts'
import { createSessionCheck } from './session-check.ts'
import { createTokenCheck } from './token-check.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorResponses } from '../http/error-response.ts'
import type { OwnOrigin } from '../http/own-origin.ts'
import type { GuardedLogins } from '../login/guarded-logins.ts'
import type { SilentLogin } from '../login/silent-login.ts'
import type { Settings } from '../options/settings.ts'
import type { Sessions } from '../session/sessions.ts'
import type { Bearer } from './bearer.ts'
import type { Constraints } from './constraints.ts'
import type { Deny } from './deny.ts'
import type { LoginProvider } from './login-provider.ts'
import type { Decide, Decision, Settle, Steps } from './proceed.ts'
import type { ParseRefresh, Refresh } from './refresh.ts'
import type { Added, Rule } from './route-rules.ts'
import type { OidcClaims } from '../../types/claims.ts'
import type { GuardHandler, Oidc } from '../../types/fastify.ts'
import type { GuardOptions } from '../../types/options.ts'

/** The guards, and their decisions without an answer. */
export type Guards = Pick<Oidc, 'required' | 'optional' | 'authenticate' | 'session'>

export interface GuardParts {
  settings: Settings
  ownOrigin: OwnOrigin
  sessions: Sessions
  parseRefresh: ParseRefresh
  bearer: Bearer | undefined
  silentLogin: SilentLogin
  guardedLogins: GuardedLogins
  loginProvider: LoginProvider
  errorResponses: Pick<ErrorResponses, 'report'>
  denyFor: (constraints: Constraints) => Deny
}

/** `refusal`: the access token could not be refreshed, so the user must log in again. */
type DecideBySession = (request: FastifyRequest, refusal?: OidcError) => Decision

/** What a guard demands of a request. */
interface Plan {
  constraints: Constraints
  refresh: Refresh | undefined
  /** Whether anonymous requests may pass. */
  isOptional?: boolean
  isSilent?: boolean
}

export function createGuards (parts: GuardParts): Guards {
  const { settings, sessions, parseRefresh, bearer, silentLogin, guardedLogins, loginProvider } = parts
  const { errorResponses: { report }, denyFor } = parts
  const anySession = parseConstraints({ accept: ['session'] }, settings)
  const sessionCheck = createSessionCheck(parts.ownOrigin, sessions)

  /** Decides by the access token of a request that has one, else by its session. */
  function createDecide (constraints: Constraints, bySession: Decide): Decide {
    const decide = createDecideWithin(constraints, bySession)
    // Outside the scope of the plugin, a guard would work only in part.
    return (request) => sessions.scopeError(request) ?? unreadError(request) ?? decide(request)
  }

  function createDecideWithin (constraints: Constraints, bySession: Decide): Decide {
    if (bearer === undefined || !acceptsTokens(constraints)) return withPredicate(bySession, constraints)
    const byToken = createTokenCheck(bearer, constraints)
    // With an access token, cookies do not count.
    const byTokenOrSession: Decide = (request) =>
      bearer.isPresented(request) ? byToken(request) : bySession(request)
    return withPredicate(byTokenOrSession, constraints)
  }

  /** Looks up the session, and refreshes the access token if the guard requires it. Most requests need not wait. */
  function afterLookup (refresh: Refresh | undefined, decide: DecideBySession): Decide {
    return (request) => {
      const ready = refresh === undefined ? sessions.prepare(request) : refresh(request)
      if (ready === undefined) return decide(request)
      return ready.then((refusal) => decide(request, refusal as Decision), (error: OidcError) => error)
    }
  }

  function parsePlan (given: GuardOptions): Plan {
    const { refresh, ...options } = plain(given)
    return { constraints: parseConstraints(options, settings), refresh: parseRefresh(refresh) }
  }

  /** Requires a user or client that meets the constraints; with `isOptional`, only of those who are known. */
  function decideBy ({ constraints, refresh, isOptional = false }: Plan): Decide {
    return createDecide(constraints, afterLookup(refresh, (request, refusal) => {
      const session = sessionCheck.identify(constraints, request)
      const problem = isOptional ? undefined : refusal
      if (session !== null) return problem ?? sessionCheck.findViolation(constraints, request, session)
      return isOptional ? undefined : problem ?? new OidcError('FST_OIDC_LOGIN_REQUIRED')
    }))
  }

  /** Answers each request that may not pass. */
  function createSettle (constraints: Constraints): Settle {
    const deny = denyFor(constraints)
    return async (problem, request, reply) => {
      if (problem !== undefined) await deny(problem, request, reply)
      return problem
    }
  }

  /** Returns whether the login started. If not, the request continues without it. */
  async function startSilentLogin (
    constraints: Constraints,
    request: FastifyRequest,
    reply: FastifyReply
  ): Promise<boolean> {
    try {
      const provider = await loginProvider(constraints, request)
      if (provider !== null) {
        await silentLogin.start(provider, request, reply)
        return true
      }
      silentLogin.suppress(reply)
      return false
    } catch (error) {
      silentLogin.suppress(reply)
      // The page is public: the user sees it also when the provider is not available.
      request.log.warn(reasonOf(error as OidcError), 'the silent login could not start')
      return false
    }
  }

  function passed (request: FastifyRequest, reply: FastifyReply): void {
    // A login of a guard has led to a page that accepts the user.
    if (request.oidcSession !== null) guardedLogins.clear(request, reply)
    sessions.writeEarly(request, reply)
  }

  function settleSilently (constraints: Constraints, settle: Settle): Settle {
    return async (problem, request, reply) => {
      const isAnonymous = problem === undefined && request.oidcToken === null
      const isStarted = isAnonymous && silentLogin.canTry(request) &&
        await startSilentLogin(constraints, request, reply)
      return isStarted ? new OidcError('FST_OIDC_LOGIN_REQUIRED') : await settle(problem, request, reply)
    }
  }

  function stepsOf (plan: Plan): Steps {
    const decide = decideBy(plan)
    const settle = createSettle(plan.constraints)
    if (plan.isSilent !== true) return { decide, settle }
    return { decide: async (request) => await decide(request), settle: settleSilently(plan.constraints, settle) }
  }

  /** A guard, which follows the config of the routes that it is a hook of. */
  function createGuard (plan: Plan): GuardHandler {
    const plain = stepsOf(plan)
    const withRules = new Map<Rule, Steps>() // as many as there are such routes

    function add (rule: Rule): Steps {
      const { constraints, refresh } = rule.added as Added
      const steps = withRules.get(rule) ?? stepsOf({
        constraints: bothConstraints(plan.constraints, constraints),
        refresh: plan.refresh ?? refresh
      })
      withRules.set(rule, steps)
      return steps
    }

    const guard = createHandler((request, isAwaited) => {
      if (isForOwnRoute(request)) return undefined
      const rule = ruleOf(request)
      if (rule === undefined) return plain
      if (rule.added !== null) return add(rule)
      return !isAwaited && isExempt(rule, guard, request) ? undefined : plain
    }, passed)
    return rememberGuard(guard, { constraints: plan.constraints, isRequired: plan.isOptional !== true, add })
  }

  return {
    required (options = {}, ...parameters: unknown[]) {
      checkCall('required', parameters)
      return createGuard(parsePlan(options))
    },

    optional (given = {}, ...parameters: unknown[]) {
      checkCall('optional', parameters)
      const { silent, ...options } = plain(given)
      return createGuard({ ...parsePlan(options), isOptional: true, isSilent: bool(silent, false, 'silent') })
    },

    async authenticate (request, options = {}) {
      const before = identityOf(request)
      try {
        const problem = await decideBy(parsePlan(options))(request)
        if (problem !== undefined) throw problem
      } catch (error) {
        // The request may pass in another way: what was refused must not count there.
        Object.assign(request, before)
        throw error
      }
      const { oidcClaims: claims, oidcUser: user, oidcSession: session, oidcToken: token } = request
      return { claims: claims as OidcClaims, user, session, token }
    },

    async session (request, options = {}) {
      checkKeys(options, ['refresh'], '')
      const outside = sessions.scopeError(request)
      if (outside !== undefined) throw outside
      const refusal = await (parseRefresh(options.refresh) ?? sessions.prepare)(request)
      const found = refusal === undefined ? sessionCheck.find(anySession, request) : null
      if (found === null) return null
      const problem = sessionCheck.findViolation(anySession, request, found)
      if (problem === undefined) return { claims: found.claims, user: found.user, session: found.session }
      report(problem, request)
      return null
    }
  }
}

function identityOf ({ oidcClaims, oidcUser, oidcSession, oidcToken }: FastifyRequest) {
  return { oidcClaims, oidcUser, oidcSession, oidcToken }
}

/** Conditions that are no own members would be lost. */
function plain<T extends GuardOptions> (options: T): T {
  check(isPlainRecord(options), 'the options of a guard must be a plain object, such as { roles: "admin" }')
  return options
}

/** Fastify calls a guard that was not called with the request, the reply and `done`. */
function checkCall (name: string, parameters: unknown[]): void {
  check(parameters.length === 0, `app.oidc.${name} is not a preHandler, it returns one: call it, app.oidc.${name}()`)
}
