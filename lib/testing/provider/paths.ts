import type { Endpoint, ProviderOptions } from './options.ts'

const standardPaths: Record<Endpoint, string> = {
  metadata: '/.well-known/openid-configuration',
  jwks: '/jwks',
  authorize: '/authorize',
  token: '/token',
  userinfo: '/userinfo',
  end_session: '/end-session',
  revocation: '/revoke',
  introspection: '/introspect',
  device: '/device',
  device_verification: '/device/verify',
  par: '/par',
  attacker: '/attacker'
}

export const paths = (options: ProviderOptions): Record<Endpoint, string> => ({ ...standardPaths, ...options.paths })

/** The endpoint of a path. RFC 8414, section 3 puts the well-known part before the path of the issuer. */
export const findEndpoint = (options: ProviderOptions, path: string): Endpoint | 'unknown' => {
  const { path: base = '' } = options
  if (path === `/.well-known/oauth-authorization-server${base}`) return 'metadata'
  const endpoints = Object.entries(paths(options)) as Array<[Endpoint, string]>
  return endpoints.find(([, own]) => path === base + own)?.[0] ?? (path.endsWith('/attacker') ? 'attacker' : 'unknown')
}
