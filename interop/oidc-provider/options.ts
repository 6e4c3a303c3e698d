import { AUDIENCE, clients } from '../clients.ts'
import type { OidcOptions } from '../../index.ts'

// The claims of `profile` and `email` are only in UserInfo. Without `resource`, its access tokens are opaque; with
// it, they are JWTs that its UserInfo endpoint refuses.
export const options = {
  offlineAccess: true,
  userinfo: true,
  bearer: { audience: AUDIENCE, clients: [clients.service.clientId] }
} satisfies Partial<OidcOptions>
