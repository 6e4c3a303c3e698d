import { challengesOf } from './challenge.ts'
import { isNavigation, isPrefetch, isSameOrigin, isUnsafe } from '../http/fetch-metadata.ts'
import { bool, check } from '../options/check.ts'
import { findViolation, parseConstraints } from './constraints.ts'
import { OidcError } from '../errors.ts'
import { suppressSilentLogin, canTrySilentLogin, startChoice, startLogin } from '../login/login.ts'
import { describeGuard } from './openapi.ts'
import { sendError } from '../http/error-response.ts'
import type { FastifyReply, FastifyRequest, preHandlerHookHandler } from 'fastify'
import type { Bearer, VerifiedToken } from './bearer.ts'
import type { Constraints } from './constraints.ts'
import type { Core } from '../compose.ts'
import type { Provider } from '../provider/provider.ts'
import type { AccessToken } from '../session/access-token.ts'
import type { Session } from '../session/session.ts'
import type { OidcClaims } from '../../types/claims.ts'
import type { GuardOptions, OptionalGuardOptions } from '../../types/options.ts'

/** Decides about a request: calls `done`, or answers. `isOut`: the access token cannot be refreshed. */
type Decide = (request: FastifyRequest, reply: FastifyReply, done: Done, isOut: boolean) => void
type Done = (error?: Error) => void

/** Only people who are logged in and meet the constraints get through. */
export function createRequired (
  core: Core,
  accessToken: AccessToken
): (options?: GuardOptions) => preHandlerHookHandler {
  return ({ refresh, ...options } = {}) => {
    const constraints = parseConstraints(options, core.settings)
    const decide = prepared(core, refresher(core, accessToken, refresh), (request, reply, done, isOut) => {
      const session = authenticate(core, constraints, request)
      const problem =
        session === null || isOut
          ? new OidcError('FST_OIDC_LOGIN_REQUIRED')
          : findGuardProblem(core, constraints, request, session)
      proceed(core, constraints, problem, request, reply, done)
    })
    const byToken = tokenGuard(core, constraints)
    return describeGuard(function oidcRequired (request, reply, done) {
      if (isByToken(core, constraints, request)) byToken(request, reply, done)
      else decide(request, reply, done)
    }, constraints)
  }
}

/** Anonymous requests get through as well; a person must meet the constraints. */
export function createOptional (
  core: Core,
  accessToken: AccessToken
): (options?: OptionalGuardOptions) => preHandlerHookHandler {
  return ({ silent: asks, refresh, ...options } = {}) => {
    const constraints = parseConstraints(options, core.settings)
    const silent = bool(asks, false, 'silent')
    const decide = prepared(core, refresher(core, accessToken, refresh), (request, reply, done) => {
      const session = authenticate(core, constraints, request)
      if (silent && canTrySilentLogin(core, request)) return askSilently(core, constraints, request, reply, done)
      const problem = session === null ? undefined : findGuardProblem(core, constraints, request, session)
      proceed(core, constraints, problem, request, reply, done)
    })
    const byToken = tokenGuard(core, constraints)
    return function oidcOptional (request, reply, done) {
      if (isByToken(core, constraints, request)) byToken(request, reply, done)
      else decide(request, reply, done)
    }
  }
}

type Refresh = (request: FastifyRequest) => Promise<boolean>

// A tenant or the store may have to be asked first, and the provider for new tokens; else nothing waits.
function prepared (
  core: Core,
  refresh: Refresh | undefined,
  decide: Decide
): (request: FastifyRequest, reply: FastifyReply, done: Done) => void {
  return (request, reply, done) => {
    const ready = refresh === undefined ? core.sessions.prepare(request) : refresh(request)
    if (ready === undefined) return decide(request, reply, done, false)
    ready
      .then(
        (isOut) => decide(request, reply, done, isOut === true),
        async (error) => await sendError(core, error, request, reply)
      )
      .catch(done)
  }
}

/** Refreshes the access token where it is due; tells whether it is over for good. */
function refresher (core: Core, accessToken: AccessToken, refresh: unknown): Refresh | undefined {
  if (!bool(refresh, false, 'refresh')) return undefined
  check(core.settings.session.tokens.has('access_token'), '"refresh" needs "session.tokens" with access_token')
  return async (request) => {
    await core.sessions.prepare(request)
    if (core.sessions.read(request) === null) return false
    try {
      await accessToken(request)
      return false
    } catch (error) {
      if (error instanceof OidcError && error.code === 'FST_OIDC_LOGIN_REQUIRED') return true
      throw error
    }
  }
}

// `done` without an error is what lets a request through. A promise of the reply would not do: it is also
// fulfilled when
// the client closes the connection, and Fastify would go on to the handler.
function proceed (
  core: Core,
  constraints: Constraints,
  problem: OidcError | undefined,
  request: FastifyRequest,
  reply: FastifyReply,
  done: Done
): void {
  if (problem !== undefined) deny(core, constraints, problem, request, reply).catch(done)
  else if (constraints.predicate === undefined || request.oidcClaims === null) done()
  else askCheck(core, constraints, constraints.predicate, request, reply, done)
}

function askCheck (
  core: Core,
  constraints: Constraints,
  check: NonNullable<Constraints['predicate']>,
  request: FastifyRequest,
  reply: FastifyReply,
  done: Done
): void {
  const ask = async (): Promise<boolean> => await check(request.oidcClaims as OidcClaims, request)
  ask()
    .then(async (passes) => {
      if (passes === true) done()
      else {
        await deny(
          core,
          constraints,
          new OidcError('FST_OIDC_FORBIDDEN', { detail: 'the check of the guard' }),
          request,
          reply
        )
      }
    })
    .catch(done)
}

/** Whether an access token counts here, and the request comes with one, or with what is meant as one. */
function isByToken ({ bearer }: Core, { accept }: Constraints, request: FastifyRequest): boolean {
  return bearer !== undefined && takesTokens(accept) && bearer.isPresented(request)
}

function takesTokens (accept: Constraints['accept']): boolean {
  return accept.has('bearer') || accept.has('client')
}

/** Who comes with an access token: the token decides, whatever cookies come with it. */
function tokenGuard (
  core: Core,
  constraints: Constraints
): (request: FastifyRequest, reply: FastifyReply, done: Done) => void {
  const bearer = core.bearer as Bearer
  const decide = (verified: VerifiedToken, request: FastifyRequest, reply: FastifyReply, done: Done): void => {
    request.oidcClaims = verified.claims
    request.oidcToken = verified.token
    // A guard before this one may have let a session in: the two need not be the same person.
    request.oidcUser = request.oidcSession = null
    proceed(core, constraints, findTokenProblem(constraints, verified), request, reply, done)
  }
  return (request, reply, done) => {
    const known = bearer.known(request)
    if (known !== undefined && constraints.providers === undefined) return decide(known, request, reply, done)
    bearer.verify(request, constraints).then(
      (verified) => decide(verified, request, reply, done),
      async (error) => await deny(core, constraints, error, request, reply)
    ).catch(done)
  }
}

function findTokenProblem (
  constraints: Constraints,
  { claims, token, provider }: VerifiedToken
): OidcError | undefined {
  // A client is nobody: what is meant for people must not take it for one (security.md S72).
  if (!constraints.accept.has(token.isClient ? 'client' : 'bearer')) {
    return new OidcError('FST_OIDC_FORBIDDEN', {
      detail: token.isClient ? 'a client, not a person' : 'a person, not a client'
    })
  }
  return findViolation(constraints, token, claims, provider.settings)
}

/** The session, unless the route is for people of another provider: there it counts for nothing. */
function authenticate (core: Core, { providers, accept }: Constraints, request: FastifyRequest): Session | null {
  const session = accept.has('session') ? core.sessions.read(request) : null
  if (session === null || providers?.(request).includes(session.session.provider) === false) {
    // A guard before this one may have been content with less.
    request.oidcClaims = request.oidcUser = request.oidcSession = request.oidcToken = null
    return null
  }
  core.sessions.touch(request)
  request.oidcClaims = session.claims
  request.oidcUser = session.user
  request.oidcSession = session.session
  request.oidcToken = null
  return session
}

function findGuardProblem (
  { settings, sessions }: Core,
  constraints: Constraints,
  request: FastifyRequest,
  { session, claims }: Session
): OidcError | undefined {
  // A browser sends the cookie whoever makes it send the request (security.md S43).
  if (isUnsafe(request) && !isSameOrigin(request, settings.origin, settings.session.trustedOrigins)) {
    return new OidcError('FST_OIDC_CROSS_SITE')
  }
  return findViolation(constraints, session, claims, sessions.provider(request).settings)
}

/** A person who opens a page is sent to log in where that helps; everybody else gets the error. */
async function deny (
  core: Core,
  constraints: Constraints,
  problem: OidcError,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  const providers = constraints.providers?.(request)
  const isPerson = constraints.accept.has('session') && isNavigation(request) && !isByToken(core, constraints, request)
  if (!isPerson) challenge(core, constraints, problem, request, reply)
  if (problem.statusCode !== 401 || !isPerson) return await sendError(core, problem, request, reply, { providers })
  if (isPrefetch(request)) return await sendError(core, new OidcError('FST_OIDC_PREFETCH'), request, reply)
  const returnTo = core.urls.request(request)
  try {
    const provider = await providerFor(core, constraints, request)
    if (provider === null) startChoice(core, request, reply, returnTo, providers)
    else {
      await startLogin(core, provider, request, reply, {
        returnTo,
        maxAge: constraints.maxAge,
        acrValues: constraints.acr.length > 0 ? [...constraints.acr] : undefined
      })
    }
  } catch (error) {
    await sendError(core, error, request, reply, { returnTo, providers })
  }
}

/** Tells the caller of an API what it takes (RFC 6750, section 3). */
export function challenge (
  { bearer, urls }: Core,
  { accept, ...constraints }: Constraints,
  problem: OidcError,
  request: FastifyRequest,
  reply: FastifyReply
): void {
  const isAboutToken =
    problem.statusCode === 401 || (bearer?.isPresented(request) === true && [400, 403].includes(problem.statusCode))
  if (bearer === undefined || !takesTokens(accept) || !isAboutToken) return
  const { dpop, dpopRequired } = bearer.settings
  reply.header(
    'www-authenticate',
    challengesOf(problem, {
      constraints,
      token: request.oidcToken ?? undefined,
      resourceMetadata: urls.resourceMetadata,
      dpop,
      dpopRequired
    })
  )
  if (problem.code === 'FST_OIDC_DPOP_NONCE') reply.header('dpop-nonce', bearer.proofs.nonce())
}

/**
 * The provider to log in with: the one that the route asks for, or that the person has logged in with; `null`
 * when it must be chosen.
 */
async function providerFor (core: Core, { providers }: Constraints, request: FastifyRequest): Promise<Provider | null> {
  const session = core.sessions.read(request)
  const names = providers?.(request)
  if (session !== null && names?.includes(session.session.provider) !== false) return core.sessions.provider(request)
  if (names === undefined) return await core.providers.ofRequest(request)
  return names.length === 1 ? await findProvider(core, request, names[0] as string) : null
}

/** Throws FST_OIDC_PROVIDER_UNKNOWN. */
export async function findProvider (core: Core, request: FastifyRequest, name: string): Promise<Provider> {
  const provider = await core.providers.find(request, name)
  if (provider === null) throw new OidcError('FST_OIDC_PROVIDER_UNKNOWN')
  return provider
}

/** Whoever the provider does not know comes back as they are. */
function askSilently (
  core: Core,
  constraints: Constraints,
  request: FastifyRequest,
  reply: FastifyReply,
  done: Done
): void {
  const ask = async (): Promise<boolean> => {
    const provider = await providerFor(core, constraints, request)
    if (provider === null) return false
    await startLogin(core, provider, request, reply, {
      returnTo: core.urls.request(request),
      authorizationParams: { prompt: 'none' }
    })
    return true
  }
  suppressSilentLogin(core, reply)
  // The page is for everybody: it is there without the provider as well.
  ask().then((asked) => { if (!asked) done() }, (error: unknown) => {
    request.log.warn({ code: (error as OidcError).code }, 'nobody could be asked silently')
    done()
  })
}
