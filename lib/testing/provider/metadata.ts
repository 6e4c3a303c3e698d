import { json } from './answer.ts'
import { change } from './fault-effects.ts'
import { grantTypes } from './grants.ts'
import { paths } from './paths.ts'
import type { Answer } from './answer.ts'
import type { Exchange } from './context.ts'
import type { ClientAuthMethod, ProviderOptions } from './options.ts'
import type { Claims } from './token-options.ts'

const authMethods: ClientAuthMethod[] = [
  'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth', 'none'
]

const capabilities = (options: ProviderOptions): Claims => ({
  response_types_supported: ['code'],
  response_modes_supported: ['query', 'fragment', 'form_post'],
  grant_types_supported: grantTypes,
  subject_types_supported: ['public'],
  scopes_supported: ['openid', 'profile', 'email', 'address', 'phone', 'offline_access'],
  claims_supported: ['sub', 'iss', 'aud', 'exp', 'iat', 'auth_time', 'nonce', 'acr', 'sid'],
  id_token_signing_alg_values_supported: ['RS256', 'PS256', 'ES256', 'EdDSA', 'HS256'],
  userinfo_signing_alg_values_supported: ['RS256', 'PS256', 'ES256', 'EdDSA'],
  token_endpoint_auth_methods_supported: authMethods,
  token_endpoint_auth_signing_alg_values_supported: ['RS256', 'PS256', 'ES256', 'EdDSA', 'HS256'],
  code_challenge_methods_supported: ['S256'],
  prompt_values_supported: ['none', 'login', 'consent', 'select_account'],
  authorization_response_iss_parameter_supported: true,
  backchannel_logout_supported: true,
  backchannel_logout_session_supported: true,
  frontchannel_logout_supported: true,
  frontchannel_logout_session_supported: true,
  request_parameter_supported: false,
  request_uri_parameter_supported: false,
  require_pushed_authorization_requests: options.requirePar
})

const document = ({ issuer, options }: Exchange['context']): Claims => {
  const { jwks, authorize, token, userinfo, end_session, revocation, introspection, device, par } = paths(options)
  return {
    issuer,
    authorization_endpoint: issuer + authorize,
    token_endpoint: issuer + token,
    userinfo_endpoint: issuer + userinfo,
    jwks_uri: issuer + jwks,
    end_session_endpoint: issuer + end_session,
    revocation_endpoint: issuer + revocation,
    introspection_endpoint: issuer + introspection,
    device_authorization_endpoint: issuer + device,
    pushed_authorization_request_endpoint: issuer + par,
    ...capabilities(options),
    ...options.metadata
  }
}

export const metadata = ({ context, faults }: Exchange): Answer =>
  json(faults.reduce((value, fault) => change(value, fault.metadata), document(context)))
