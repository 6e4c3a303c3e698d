import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import oidc from '../../index.ts'
import { OidcError } from '../errors.ts'
import { toOidcError } from '../http/error-response.ts'
import { printable } from '../http/params.ts'
import { createMemoryStore } from '../store/memory.ts'
import { isLoopbackHttp } from '../util/url.ts'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { IdTokenClaims } from '../../types/claims.ts'
import type { ClaimsContext, LoginOptions, OidcOptions } from '../../types/options.ts'

/** The logins, one after the other, in the same browser. */
export const STEPS = ['login', 'promptNone', 'maxAge'] as const
export type Step = typeof STEPS[number]

const ASKED: Record<Step, LoginOptions> = { login: {}, promptNone: { prompt: 'none' }, maxAge: { maxAge: 1 } }
/** Times in tokens are whole seconds: after so many milliseconds, a login is older than `max_age`. */
const UNTIL_OLDER = 2100

/** What each login has led to. A step that is missing was not reached. */
export interface Logins {
  results: Map<Step, { claims: IdTokenClaims } | { error: OidcError }>
  /** The last error that a user can cause. The login can be tried again after it. */
  lastError: OidcError | undefined
}

/** About the browser, and not about the provider: the page of the plugin offers another try. */
const OF_BROWSERS: ReadonlySet<string> = new Set(['FST_OIDC_STATE', 'FST_OIDC_PREFETCH', 'FST_OIDC_NAVIGATION'])

export interface LoginServer {
  options: OidcOptions
  /** The port to listen on where `baseUrl` does not say it. */
  port: number
  /** How long to wait for the browser, in seconds. */
  wait: number
  /** Tells the user which address to open. */
  open: (url: string) => void
  /** Gets the tokens of the first login. */
  onLogin: (claims: IdTokenClaims, context: ClaimsContext) => Promise<void>
}

/**
 * Serves an application with the plugin on this machine until a browser has gone through all logins, or too much time
 * has passed. Throws when it cannot listen, and an OidcError when the options do not go together.
 */
export async function serveLogins ({ options, port, wait, open, onLogin }: LoginServer): Promise<Logins> {
  const logins: Logins = { results: new Map(), lastError: undefined }
  const { baseUrl } = options
  const next = `${baseUrl.replace(/\/$/, '')}/doctor`
  const stepNow = (): Step | undefined => STEPS.find((step) => !logins.results.has(step))
  const hasFailed = (): boolean => 'error' in (logins.results.get('login') ?? {})

  const app = Fastify({ forceCloseConnections: true })
  let answer = 'with an error'
  app.addHook('onRequest', async ({ query }) => { answer = String((query as { error?: unknown }).error ?? answer) })
  const done = new Promise<void>((resolve) => {
    app.addHook('onResponse', async () => {
      if (isOver) resolve()
    })
  })
  let isOver = false

  async function showNext (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    // For the plugin, a refused prompt=none is no error: the page opens without the login.
    if (stepNow() === 'promptNone' && (request.query as { after?: unknown }).after === 'promptNone') {
      const detail = `the provider answered ${printable(answer)}`
      logins.results.set('promptNone', { error: new OidcError('FST_OIDC_PROVIDER_REFUSED', { detail }) })
    }
    const step = stepNow()
    if (step === undefined || hasFailed()) {
      isOver = true
      return reply.type('text/html; charset=utf-8').send(END)
    }
    try {
      if (step === 'maxAge') await delay(UNTIL_OLDER)
      return await app.oidc.login(request, reply, { ...ASKED[step], returnTo: `${next}?after=${step}` })
    } catch (error) {
      logins.results.set(step, { error: toOidcError(error) })
      return reply.redirect(next)
    }
  }

  try {
    await app.register(oidc, {
      ...options,
      // Tokens of any size fit.
      store: createMemoryStore(),
      session: { ...options.session, store: true },
      onClaims: async (claims, context) => {
        const step = stepNow()
        if (step === 'login') await onLogin(claims, context)
        if (step !== undefined) logins.results.set(step, { claims })
      },
      onError: (error, { reply }) => {
        logins.lastError = error
        const step = stepNow()
        if (OF_BROWSERS.has(error.code) || step === undefined) return
        logins.results.set(step, { error })
        reply.redirect(next)
      }
    })
    for (const path of pathsOf(next)) app.get(path, showNext)
    await listen(app, new URL(baseUrl), port)
    open(next)
    await Promise.race([done, delay(wait * 1000, undefined, { ref: false })])
    return logins
  } finally {
    await app.close()
  }
}

/** A proxy may remove the path of `baseUrl`, or keep it. */
function pathsOf (url: string): Set<string> {
  return new Set(['/doctor', new URL(url).pathname])
}

async function listen (app: FastifyInstance, { href, hostname, port }: URL, otherPort: number): Promise<void> {
  // With https, or on another host, something else receives the browser and passes its requests on.
  const isOwn = isLoopbackHttp(href)
  await app.listen(isOwn
    ? { host: addressOf(hostname), port: port === '' ? 80 : Number(port) }
    : { host: '127.0.0.1', port: otherPort })
}

function addressOf (hostname: string): string {
  return hostname.endsWith('localhost') ? 'localhost' : hostname.replace(/^\[|\]$/g, '')
}

const END = '<!doctype html><html lang="en"><title>fastify-oidc doctor</title>' +
  '<p>This is the end. The terminal shows the report.</p></html>'
