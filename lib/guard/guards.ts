import { OidcError } from '../errors.ts'
import { bool, check } from '../options/check.ts'
import { acceptsTokens, parseConstraints } from './constraints.ts'
import { describeGuard } from './openapi.ts'
import { createProceed } from './proceed.ts'
import { createSessionCheck } from './session-check.ts'
import { createTokenCheck } from './token-check.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorResponses } from '../http/error-response.ts'
import type { SilentLogin } from '../login/silent-login.ts'
import type { Settings } from '../options/settings.ts'
import type { AccessToken } from '../session/access-token.ts'
import type { Sessions } from '../session/sessions.ts'
import type { Bearer } from './bearer.ts'
import type { Constraints } from './constraints.ts'
import type { Deny } from './deny.ts'
import type { LoginProvider } from './login-provider.ts'
import type { Done, Proceed, Step } from './proceed.ts'
import type { Oidc } from '../../types/fastify.ts'
import type { GuardOptions } from '../../types/options.ts'

/** The preHandlers that let a request through, or answer it. */
export type Guards = Pick<Oidc, 'required' | 'optional'>

export interface GuardParts {
  settings: Settings
  sessions: Sessions
  accessToken: AccessToken
  bearer: Bearer | undefined
  silentLogin: SilentLogin
  loginProvider: LoginProvider
  errorResponses: ErrorResponses
  denyFor: (constraints: Constraints) => Deny
}

/** The parts that all guards share. */
interface Guard {
  constraints: Constraints
  proceed: Proceed
  /** Checks the access token of a request that has one, else its session. */
  byTokenOr: (bySession: Step) => Step
}

/** `isRefused`: the provider has refused to refresh the access token. */
type SessionStep = (request: FastifyRequest, reply: FastifyReply, done: Done, isRefused: boolean) => void

/** Refreshes the access token if it is due. Returns `true` when the provider refuses. */
type Refresh = (request: FastifyRequest) => Promise<boolean>

export function createGuards (parts: GuardParts): Guards {
  const { settings, sessions, accessToken, bearer, silentLogin, loginProvider, denyFor } = parts
  const { sendError } = parts.errorResponses
  const sessionCheck = createSessionCheck(settings, sessions)

  function createGuard (options: GuardOptions): Guard {
    const constraints = parseConstraints(options, settings)
    const deny = denyFor(constraints)
    const proceed = createProceed(constraints, deny)
    return {
      constraints,
      proceed,
      byTokenOr (bySession) {
        if (bearer === undefined || !acceptsTokens(constraints)) return bySession
        const byToken = createTokenCheck(bearer, constraints, proceed, deny)
        // With an access token, cookies do not count.
        return (request, reply, done) => {
          if (bearer.isPresented(request)) byToken(request, reply, done)
          else bySession(request, reply, done)
        }
      }
    }
  }

  /** Looks up the session, and refreshes the access token if the guard requires it. Most requests need not wait. */
  function afterLookup (refresh: Refresh | undefined, decide: SessionStep): Step {
    return (request, reply, done) => {
      const ready = refresh === undefined ? sessions.prepare(request) : refresh(request)
      if (ready === undefined) return decide(request, reply, done, false)
      ready.then(
        (isRefused) => decide(request, reply, done, isRefused === true),
        async (error) => await sendError(error, request, reply)
      ).catch(done)
    }
  }

  function parseRefresh (value: unknown): Refresh | undefined {
    if (!bool(value, false, 'refresh')) return undefined
    check(settings.session.tokens.has('access_token'), '"refresh" needs "session.tokens" with access_token')
    return async (request) => {
      await sessions.prepare(request)
      if (sessions.read(request) === null) return false
      try {
        await accessToken(request)
        return false
      } catch (error) {
        if (error instanceof OidcError && error.code === 'FST_OIDC_LOGIN_REQUIRED') return true
        throw error
      }
    }
  }

  /** Returns `false` when the request continues without a login. */
  async function startSilentLogin (
    constraints: Constraints,
    request: FastifyRequest,
    reply: FastifyReply
  ): Promise<boolean> {
    silentLogin.suppress(reply)
    try {
      const provider = await loginProvider(constraints, request)
      if (provider === null) return false
      await silentLogin.start(provider, request, reply)
      return true
    } catch (error) {
      // The page is public: the user sees it also when the provider is not available.
      request.log.warn({ code: (error as OidcError).code }, 'the silent login could not start')
      return false
    }
  }

  return {
    required ({ refresh, ...options } = {}) {
      const { constraints, proceed, byTokenOr } = createGuard(options)
      const decide = byTokenOr(afterLookup(parseRefresh(refresh), (request, reply, done, isRefused) => {
        const session = sessionCheck.identify(constraints, request)
        const problem = session === null || isRefused
          ? new OidcError('FST_OIDC_LOGIN_REQUIRED')
          : sessionCheck.findViolation(constraints, request, session)
        proceed(problem, request, reply, done)
      }))
      return describeGuard(function oidcRequired (request, reply, done) {
        decide(request, reply, done)
      }, constraints)
    },

    optional ({ silent, refresh, ...options } = {}) {
      const { constraints, proceed, byTokenOr } = createGuard(options)
      const isSilent = bool(silent, false, 'silent')
      const decide = byTokenOr(afterLookup(parseRefresh(refresh), (request, reply, done) => {
        const session = sessionCheck.identify(constraints, request)
        if (isSilent && silentLogin.canTry(request)) {
          startSilentLogin(constraints, request, reply).then((isStarted) => { if (!isStarted) done() }, done)
          return
        }
        const problem = session === null ? undefined : sessionCheck.findViolation(constraints, request, session)
        proceed(problem, request, reply, done)
      }))
      return function oidcOptional (request, reply, done) {
        decide(request, reply, done)
      }
    }
  }
}
