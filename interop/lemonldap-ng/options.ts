import { AUDIENCE, clients } from '../clients.ts'
import type { OidcOptions } from '../../index.ts'

// `clientAuth`: it reads HTTP Basic only up to the first + or / of the base64 text, and decodes nothing.
// `trustedAudiences`: the additional audiences of a client are in its ID tokens, too. `introspectionAudience`: an
// answer has neither `aud` nor `token_type`.
export const options = {
  userinfo: true,
  clientAuth: 'client_secret_post',
  trustedAudiences: [AUDIENCE],
  bearer: {
    audience: AUDIENCE,
    strictType: false,
    introspectionAudience: 'optional',
    clients: [clients.service.clientId]
  }
} satisfies Partial<OidcOptions>
