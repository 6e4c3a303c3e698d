import { findProvider } from '../guard/guards.ts'
import { nativeParams, readNativeLogin, refuseNativeLogin } from '../broker/native-login.ts'
import { isFramed, isPrefetch, isScript } from '../http/fetch-metadata.ts'
import { OidcError } from '../errors.ts'
import { startLogin } from '../login/login.ts'
import { allowedParams, parseLoginQuery } from '../login/login-parameters.ts'
import { choicePage } from '../http/pages.ts'
import { queryParams } from '../http/params.ts'
import { sendError } from '../http/error-response.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { NativeLogin } from '../broker/native-login.ts'
import type { Core } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { Provider } from '../provider/provider.ts'
import type { Endpoint } from './index.ts'

/** `GET login?return_to=…&provider=…`: with several providers and none named, a page that offers the choice. */
export function loginEndpoint (core: Core): Endpoint {
  return {
    async GET (request, reply) {
      const params = loginParams(request)
      const names = params.get('provider')?.split(' ').filter(Boolean) ?? []
      const provider =
        names.length === 0 ? await core.providers.ofRequest(request) : await onlyOne(core, request, names)
      if (provider === null) offerChoice(core, params, names, reply)
      else await logInWith(core, provider, params, request, reply)
      return reply
    }
  }
}

/** `GET {provider}/login?return_to=…` */
export function providerLoginEndpoint (core: Core, nameOf: (request: FastifyRequest) => string): Endpoint {
  return {
    async GET (request, reply) {
      const params = loginParams(request)
      await logInWith(core, await findProvider(core, request, nameOf(request)), params, request, reply)
      return reply
    }
  }
}

function loginParams (request: FastifyRequest): Params {
  checkNavigation(request)
  return queryParams(request)
}

/** Throws unless a person opens a page. */
export function checkNavigation (request: FastifyRequest): void {
  if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
  if (isScript(request) || isFramed(request)) throw new OidcError('FST_OIDC_NAVIGATION')
}

async function onlyOne (core: Core, request: FastifyRequest, names: string[]): Promise<Provider | null> {
  return names.length === 1 ? await findProvider(core, request, names[0] as string) : null
}

async function logInWith (
  core: Core,
  provider: Provider,
  params: Params,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  const clients = core.broker?.settings.nativeClients
  if (clients !== undefined && params.has('redirect_uri')) {
    return await logInNative(core, provider, readNativeLogin(params, clients), params, request, reply)
  }
  const wishes = parseLoginQuery(params, core.settings.loginParams)
  const returnTo = core.urls.returnTo(params.get('return_to'))
  try {
    await startLogin(core, provider, request, reply, { ...wishes, returnTo })
  } catch (error) {
    await sendError(core, error, request, reply, { returnTo, providers: [provider.name] })
  }
}

/** For an application on the person's own machine (RFC 8252). */
async function logInNative (
  core: Core,
  provider: Provider,
  native: NativeLogin,
  params: Params,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  const prompt = params.get('prompt')
  const offlineAccess =
    params.get('offline_access') === 'true' || native.scope?.split(' ').includes('offline_access') === true
  await startLogin(core, provider, request, reply, {
    native,
    offlineAccess,
    returnTo: core.settings.defaultReturnTo,
    authorizationParams: { ...(prompt !== undefined && PROMPTS.has(prompt) && { prompt }) }
  }).catch((error: unknown) => refuseNativeLogin(core, native, error, request, reply))
}

// `none` is left out: the application asks because somebody is there.
const PROMPTS: ReadonlySet<string> = new Set(['login', 'consent', 'select_account'])

function offerChoice ({ providers, urls, settings }: Core, params: Params, names: string[], reply: FastifyReply): void {
  const offered = providers.choices.filter(({ name }) => names.length === 0 || names.includes(name))
  if (offered.length === 0) throw new OidcError('FST_OIDC_PROVIDER_UNKNOWN')
  const query = new URLSearchParams([
    ['return_to', urls.returnTo(params.get('return_to'))],
    ...allowedParams(params, settings.loginParams),
    ...(settings.broker?.nativeClients === undefined ? [] : nativeParams(params))
  ])
  choicePage(
    reply,
    offered.map(({ name, settings: { label } }) => {
      return { url: `${urls.route(settings.providerRoutes(name).login as string)}?${query.toString()}`, label }
    })
  )
}
