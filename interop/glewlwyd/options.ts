import { AUDIENCE, clients } from '../clients.ts'
import type { OidcOptions } from '../../index.ts'

// `basicEncoding`: it does not decode credentials. `session.store` keeps the ID token, which its logout needs.
export const options = {
  basicEncoding: 'raw',
  store: 'memory:',
  session: { store: true },
  resource: AUDIENCE,
  bearer: { audience: AUDIENCE, clients: [clients.service.clientId] }
} satisfies Partial<OidcOptions>
