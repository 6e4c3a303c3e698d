import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from './core.ts'

export interface LoginRequest {
  /** A URL that `urls` made. */
  returnTo: string
  maxAge?: number | undefined
  acrValues?: string[] | undefined
  authorizationParams?: Record<string, string>
  restarted?: boolean
}

/** Sends the browser to the provider, and remembers what the callback will need (OpenID Connect Core 1.0, section 3.1.2.1). */
export async function startLogin (core: Core, request: FastifyRequest, reply: FastifyReply, options: LoginRequest): Promise<void> {
  await core.telemetry.span('oidc.login', async () => {
    const params = { ...core.settings.provider.authorizationParams, ...options.authorizationParams }
    const login = {
      ...core.pending.create(),
      provider: core.provider.name,
      redirectUri: core.urls.route(core.settings.routes.callback),
      returnTo: options.returnTo,
      maxAge: options.maxAge ?? maxAgeOf(params),
      acrValues: options.acrValues,
      restarted: options.restarted ?? false
    }
    const url = await core.provider.authorizationUrl(login, params)
    core.pending.save(request, reply, login)
    goTo(request, reply, url.href)
  })
}

// Whoever asks for a max_age gets it checked, however it was asked for (OpenID Connect Core 1.0, section 3.1.3.7, item 11).
function maxAgeOf ({ max_age: maxAge }: Record<string, string>): number | undefined {
  return maxAge === undefined ? undefined : Number(maxAge)
}

/** A redirect that no cache keeps, and whose target learns nothing of this address. */
export function goTo (request: FastifyRequest, reply: FastifyReply, url: string): void {
  reply
    .header('cache-control', 'no-store')
    .header('referrer-policy', 'no-referrer')
    .redirect(url, request.method === 'GET' ? 302 : 303)
}
