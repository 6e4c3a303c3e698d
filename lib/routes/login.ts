import { OidcError } from '../errors.ts'
import { isFramed, isPrefetch, isScript } from '../http/fetch-metadata.ts'
import { queryParams } from '../http/params.ts'
import { allowedParams, parseLoginQuery } from '../login/login-parameters.ts'
import { choicePage } from '../pages/pages.ts'
import { splitWords } from '../util/words.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { NativeLogins } from '../broker/native-login.ts'
import type { Parts } from '../compose.ts'
import type { BrowserParams } from '../http/params.ts'
import type { Provider } from '../provider/provider.ts'
import type { Endpoint, ProviderNameOf } from './endpoint.ts'

type LoginParts = Pick<Parts,
  'providers' | 'login' | 'urls' | 'settings' | 'stepUp' | 'nativeLogins' | 'pages' | 'errorResponses'>

/**
 * `GET login?return_to=…&provider=…&step_up=…`: with several providers and none named, a page where the user chooses.
 */
export function loginEndpoint (parts: LoginParts): Endpoint {
  const { providers } = parts
  const logIn = createLogIn(parts)
  const offerChoice = createChoice(parts)
  return {
    async GET (request, reply) {
      checkNavigation(request)
      const params = queryParams(request)
      const names = splitWords(params.get('provider') ?? '')
      const provider = names.length === 0
        ? await providers.ofRequest(request)
        : await onlyProvider(providers, request, names)
      if (provider === null) await offerChoice(params, names, reply)
      else await logIn(provider, params, request, reply)
      return reply
    }
  }
}

/** `GET {provider}/login?return_to=…&step_up=…` */
export function providerLoginEndpoint (parts: LoginParts, nameOf: ProviderNameOf): Endpoint {
  const { providers } = parts
  const logIn = createLogIn(parts)
  return {
    async GET (request, reply) {
      checkNavigation(request)
      const params = queryParams(request)
      const provider = await providers.get(request, nameOf(request))
      await logIn(provider, params, request, reply)
      return reply
    }
  }
}

/** Throws FST_OIDC_PREFETCH, FST_OIDC_NAVIGATION unless a user opens a page. */
export function checkNavigation (request: FastifyRequest): void {
  if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
  if (isScript(request) || isFramed(request)) throw new OidcError('FST_OIDC_NAVIGATION')
}

async function onlyProvider (
  providers: LoginParts['providers'],
  request: FastifyRequest,
  names: string[]
): Promise<Provider | null> {
  return names.length === 1 ? await providers.get(request, names[0] as string) : null
}

type LogIn = (provider: Provider, params: BrowserParams, request: FastifyRequest, reply: FastifyReply) => Promise<void>

function createLogIn (parts: LoginParts): LogIn {
  const { login, urls, settings: { loginParams }, stepUp, nativeLogins, errorResponses: { sendError } } = parts
  const logInNative = nativeLogins === undefined ? undefined : createNativeLogIn(parts, nativeLogins)

  return async (provider, params, request, reply) => {
    if (logInNative !== undefined && params.has('redirect_uri')) {
      return await logInNative(provider, params, request, reply)
    }
    const demanded = params.get('step_up')
    const parameters = { ...parseLoginQuery(params, loginParams), ...stepUp.open(demanded, request) }
    const returnTo = urls.returnTo(params.get('return_to'))
    try {
      await login.start(provider, request, reply, { ...parameters, returnTo })
    } catch (error) {
      await sendError(error, request, reply, { returnTo, providers: [provider.name], stepUp: demanded })
    }
  }
}

// Without `none`: the application starts the login because the user is present.
const PROMPTS: ReadonlySet<string> = new Set(['login', 'consent', 'select_account'])

/** For an application on the user's own machine (RFC 8252). */
function createNativeLogIn ({ login, settings }: LoginParts, nativeLogins: NativeLogins): LogIn {
  return async (provider, params, request, reply) => {
    const native = nativeLogins.parse(params)
    const prompt = params.get('prompt')
    const isOffline = splitWords(native.scope ?? '').includes('offline_access')
    const loginRequest = {
      native,
      offlineAccess: isOffline || params.get('offline_access') === 'true',
      returnTo: settings.defaultReturnTo,
      authorizationParams: { ...(prompt !== undefined && PROMPTS.has(prompt) && { prompt }) }
    }
    try {
      await login.start(provider, request, reply, loginRequest)
    } catch (error) {
      await nativeLogins.refuse(native, error, request, reply)
    }
  }
}

function createChoice ({ providers, urls, settings, nativeLogins, pages }: LoginParts) {
  const { loginParams, providerRoutes } = settings

  /** The parameters that the links to the providers repeat. */
  function queryOf (params: BrowserParams): string {
    const returnTo = urls.returnTo(params.get('return_to'))
    const native = nativeLogins?.paramsOf(params) ?? []
    const others = allowedParams(params, [...loginParams, 'step_up'])
    return new URLSearchParams([['return_to', returnTo], ...others, ...native]).toString()
  }

  return async (params: BrowserParams, names: string[], reply: FastifyReply): Promise<void> => {
    const offered = providers.choices.filter(({ name }) => names.length === 0 || names.includes(name))
    if (offered.length === 0) throw new OidcError('FST_OIDC_PROVIDER_UNKNOWN')
    const query = queryOf(params)
    await pages.send(reply, choicePage(offered.map(({ name, settings: { label } }) => {
      return { url: `${urls.route(providerRoutes(name).login as string)}?${query}`, label }
    })))
  }
}
