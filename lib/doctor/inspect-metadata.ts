import { SIGNING_ALGS } from '../options/provider.ts'
import { finding } from './report.ts'
import type { Finding, MetadataReport } from './report.ts'
import type { UsableMetadata } from '../provider/metadata.ts'
import type { ProviderMetadata } from '../../types/options.ts'

/** What does not work without an endpoint. `undefined`: no login works. */
const ENDPOINTS: Record<string, string | undefined> = {
  authorization_endpoint: undefined,
  token_endpoint: undefined,
  jwks_uri: undefined,
  userinfo_endpoint: 'Leave out "userinfo", and "userinfo" in "rolesFrom"',
  end_session_endpoint: 'A logout is one from your application only: the provider still knows the user',
  revocation_endpoint: 'A logout does not revoke the tokens: choose a short lifetime for refresh tokens at the provider',
  introspection_endpoint: 'As access tokens of an API ("bearer"), only JWTs are accepted. Where there is an endpoint ' +
    'that is in no document, set it in "metadata"',
  device_authorization_endpoint: 'Programs cannot log in by device flow',
  pushed_authorization_request_endpoint: 'Leave out "pushedAuthorizationRequests"'
}
const LISTS = [
  'scopes_supported', 'claims_supported', 'response_types_supported', 'response_modes_supported',
  'grant_types_supported', 'prompt_values_supported', 'code_challenge_methods_supported',
  'id_token_signing_alg_values_supported', 'token_endpoint_auth_methods_supported'
]
const SWITCHES = [
  'authorization_response_iss_parameter_supported', 'require_pushed_authorization_requests',
  'backchannel_logout_supported', 'backchannel_logout_session_supported',
  'frontchannel_logout_supported', 'frontchannel_logout_session_supported'
]
/** How many entries of a list are shown. */
const MAX_SHOWN = 50
const CLIENT_AUTHS = [
  'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth', 'none'
]

/** What the metadata says, as it is. */
export function describeMetadata (url: string, document: Record<string, unknown>): MetadataReport {
  const members = <T>(names: string[], read: (value: unknown) => T): Array<[string, T]> =>
    names.map((name) => [name, read(document[name])])
  return {
    url,
    endpoints: Object.fromEntries(members(Object.keys(ENDPOINTS), (value) => typeof value === 'string' ? value : null)),
    supports: Object.fromEntries<boolean | string[] | null>([
      ...members(LISTS, (value) => texts(value)?.slice(0, MAX_SHOWN) ?? null),
      ...members(SWITCHES, (value) => typeof value === 'boolean' ? value : null)
    ])
  }
}

/** What is missing in the metadata, and what is odd about it. */
export function inspectMetadata ({ metadata, leftOut }: UsableMetadata): Finding[] {
  const unusable = [...leftOut].map(([name, problem]) => finding(
    'warning', 'endpoint_unusable', `${name} ${problem}: it is not used`,
    'Correct it at the provider, or set the right one in the option "metadata"'
  ))
  const missing = Object.entries(ENDPOINTS)
    .filter(([name]) => metadata[name] === undefined && !leftOut.has(name))
    .map(([name, without]) => finding('note', 'endpoint_missing', `there is no ${name}`, without as string))
  return [...unusable, ...missing, ...CHECKS.flatMap((check) => check(metadata))]
}

/** The algorithm to expect of ID tokens: the default where the provider has it. `undefined`: it has none of ours. */
export function signingAlgOf (metadata: ProviderMetadata): string | undefined {
  const offered = texts(metadata['id_token_signing_alg_values_supported']) ?? ['RS256']
  return SIGNING_ALGS.find((alg) => offered.includes(alg))
}

const CHECKS: Array<(metadata: ProviderMetadata) => Finding[]> = [
  (metadata) => {
    const types = texts(metadata['response_types_supported'])
    return types === null || types.includes('code')
      ? []
      : [finding(
          'error', 'no_code_flow',
          'the provider does not support the response type code',
          'Switch on the authorization code flow at the provider'
        )]
  },

  (metadata) => {
    const alg = signingAlgOf(metadata)
    if (alg === 'RS256') return []
    if (alg === undefined) {
      return [finding(
        'error', 'no_signing_alg',
        'the provider signs ID tokens with no asymmetric algorithm',
        `Configure one of ${SIGNING_ALGS.join(', ')} at the provider`
      )]
    }
    return [finding(
      'warning', 'signing_alg',
      'the provider does not sign ID tokens with RS256, the default',
      `Set "idTokenSigningAlg" to ${alg}, or to what is registered for the client`,
      { idTokenSigningAlg: alg }
    )]
  },

  (metadata) => {
    const offered = texts(metadata['id_token_signing_alg_values_supported']) ?? []
    const weak = offered.filter((alg) => /^(?:none|HS\d+)$/.test(alg))
    return weak.length === 0
      ? []
      : [finding(
          'note', 'weak_signing_algs',
          `the provider also offers ${shown(weak)} for ID tokens`,
          'Nothing to do: the plugin accepts one asymmetric algorithm only'
        )]
  },

  (metadata) => {
    const methods = texts(metadata['code_challenge_methods_supported'])
    if (methods?.includes('S256') === true) return []
    const message = methods === null
      ? 'the provider does not announce PKCE'
      : `the provider announces PKCE with ${shown(methods)}, not with S256`
    return [finding(
      'warning', 'pkce',
      message,
      'PKCE with S256 is sent all the same, and a provider that does not know it ignores it. Switch it on for ' +
        'the client where that is possible'
    )]
  },

  (metadata) => metadata.authorization_response_iss_parameter_supported === true
    ? []
    : [finding(
        'note', 'no_iss_parameter',
        'responses have no iss parameter (RFC 9207)',
        'Nothing to do: each provider has its own redirect URI. Do not register one for several providers'
      )],

  (metadata) => {
    if (metadata.require_pushed_authorization_requests !== true) return []
    return metadata.pushed_authorization_request_endpoint === undefined
      ? [finding(
          'error', 'no_pushed_requests',
          'the provider demands pushed authorization requests, and has no endpoint for them',
          'Set "pushed_authorization_request_endpoint" in the option "metadata"'
        )]
      : [finding(
          'note', 'pushed_requests',
          'the provider demands pushed authorization requests (RFC 9126)',
          'Nothing to do: the plugin pushes them'
        )]
  },

  (metadata) => metadata['require_signed_request_object'] === true
    ? [finding(
        'error', 'signed_requests',
        'the provider demands signed request objects (RFC 9101)',
        'Switch that off for the client: the plugin does not send them'
      )]
    : [],

  (metadata) => {
    const modes = texts(metadata['response_modes_supported'])
    if (modes === null || modes.includes('query')) return []
    return modes.includes('form_post')
      ? [finding(
          'warning', 'response_mode',
          'the provider does not answer in the query',
          'Set "responseMode" to form_post, with an https "baseUrl"',
          { responseMode: 'form_post' }
        )]
      : [finding(
          'error', 'no_response_mode',
          `the provider answers by ${shown(modes)} only`,
          'Switch on the response mode query or form_post'
        )]
  },

  (metadata) => {
    const scopes = texts(metadata['scopes_supported'])
    if (scopes === null) return []
    const lacking = ['openid', 'profile', 'email'].filter((scope) => !scopes.includes(scope))
    const wanted = ['openid', 'profile', 'email'].filter((scope) => scope === 'openid' || scopes.includes(scope))
    return lacking.length === 0
      ? []
      : [finding(
          'warning', 'scopes',
          `the provider does not list the scopes ${shown(lacking)}`,
          `Set "scope" to ${shown(wanted)} if the provider answers invalid_scope`,
          { scope: wanted.join(' ') }
        )]
  },

  (metadata) => {
    const scopes = texts(metadata['scopes_supported'])
    return scopes === null || scopes.includes('offline_access')
      ? []
      : [finding(
          'note', 'no_offline_access',
          'the provider does not list the scope offline_access',
          'Do not set "offlineAccess". A provider may give refresh tokens without it'
        )]
  },

  (metadata) => {
    const prompts = texts(metadata['prompt_values_supported'])
    return prompts === null || prompts.includes('none')
      ? []
      : [finding('note', 'no_prompt_none', 'the provider does not list prompt=none', 'Do not use "silent"')]
  },

  (metadata) => {
    if (metadata['backchannel_logout_supported'] === true) {
      return metadata['backchannel_logout_session_supported'] === true
        ? []
        : [finding(
            'note', 'backchannel_without_sid',
            'logout tokens have no sid',
            'Such a logout ends all sessions of the user'
          )]
    }
    return [finding(
      'note', 'no_backchannel_logout',
      'the provider has no back-channel logout',
      'A logout elsewhere does not end sessions here: choose a short "session.maxAge" or ' +
        '"session.idleTimeout", or "refresh" in guards'
    )]
  },

  (metadata) => {
    const isWithoutSession = metadata['frontchannel_logout_supported'] === true &&
      metadata['frontchannel_logout_session_supported'] !== true
    return isWithoutSession
      ? [finding(
          'note', 'frontchannel_without_sid',
          'front-channel logouts may come without iss and sid, and then end nothing',
          'Switch on "session required" for the front-channel logout of the client'
        )]
      : []
  },

  (metadata) => {
    const methods = texts(metadata['token_endpoint_auth_methods_supported'])
    if (methods === null) {
      return [finding(
        'note', 'no_auth_methods',
        'the provider does not say how clients authenticate',
        'The default is client_secret_basic'
      )]
    }
    return methods.some((method) => CLIENT_AUTHS.includes(method))
      ? []
      : [finding(
          'error', 'auth_methods',
          `clients authenticate only by ${shown(methods)}`,
          `Switch on one of ${shown(CLIENT_AUTHS)}`
        )]
  },

  (metadata) => {
    const { host } = new URL(metadata.issuer)
    const elsewhere = Object.keys(ENDPOINTS).filter((name) => {
      const url = metadata[name]
      return typeof url === 'string' && new URL(url).host !== host
    })
    return elsewhere.length === 0
      ? []
      : [finding(
          'note', 'other_hosts',
          `on another host than the issuer: ${shown(elsewhere)}`,
          'Check that these hosts belong to the provider, and that firewalls let them pass'
        )]
  },

  (metadata) => {
    const { access_token_issuer: issuer } = metadata
    return issuer === undefined || issuer === metadata.issuer
      ? []
      : [finding(
          'note', 'access_token_issuer',
          `access tokens have another issuer: ${String(issuer).slice(0, 200)}`,
          'Nothing to do: it is accepted for access tokens'
        )]
  }
]

/** The texts of a list in the metadata, `null` when it is none. */
export function texts (value: unknown): string[] | null {
  return Array.isArray(value) ? value.filter((entry): entry is string => typeof entry === 'string') : null
}

function shown (names: string[]): string {
  const rest = names.length > MAX_SHOWN ? ' …' : ''
  return names.slice(0, MAX_SHOWN).join(' ') + rest
}
