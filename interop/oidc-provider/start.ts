import { startOidcProvider } from '../../test/support/oidc-provider.ts'
import type { ClientMetadata } from '../../test/support/oidc-provider.ts'
import { baseUrlOf } from '../base-url.ts'
import { AUDIENCE, clients } from '../clients.ts'
import type { Client } from '../clients.ts'

// Starts oidc-provider (npm) with the clients of the matrix: node dist/interop/oidc-provider/start.js [port]

const port = Number(process.argv[2] ?? 8961)

function registrationOf (client: Client): ClientMetadata {
  const baseUrl = baseUrlOf(client)
  return {
    client_id: client.clientId,
    client_secret: client.clientSecret,
    redirect_uris: [`${baseUrl}/auth/callback`],
    post_logout_redirect_uris: [`${baseUrl}/auth/logged-out`],
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
    require_auth_time: true
  }
}

function backChannel ({ port }: Client): Partial<ClientMetadata> {
  const uri = `http://127.0.0.1:${port}/auth/backchannel-logout`
  return { backchannel_logout_uri: uri, backchannel_logout_session_required: true }
}

const service: ClientMetadata = {
  client_id: clients.service.clientId,
  client_secret: clients.service.clientSecret,
  redirect_uris: [],
  response_types: [],
  grant_types: ['client_credentials']
}

const { issuer } = await startOidcProvider({
  port,
  clients: [
    ...[clients.web, clients.other].map((client) => ({ ...registrationOf(client), ...backChannel(client) })),
    ...[clients.framed, clients.asking, clients.odd].map(registrationOf),
    service
  ],
  configuration: { features: { dPoP: { enabled: true } } }
})
console.log(`oidc-provider: ${issuer}, tokens for ${AUDIENCE}`)
