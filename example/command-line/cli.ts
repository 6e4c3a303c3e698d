import {
  discovery, allowInsecureRequests, initiateDeviceAuthorization, None, pollDeviceAuthorizationGrant,
  refreshTokenGrant, tokenRevocation
} from 'openid-client'

// A program that uses OAuth without fastify-oidc. It logs a user in by device flow and calls the API of the example.

const baseUrl = String(process.argv[2])

// The example runs without TLS. A real program needs only the option `algorithm`, not `execute`.
const config = await discovery(new URL(baseUrl), 'example-cli', undefined, None(), {
  algorithm: 'oauth2',
  execute: [allowInsecureRequests]
})

const device = await initiateDeviceAuthorization(config, {})
console.log(`Open ${device.verification_uri} and enter the code ${device.user_code}`)
const tokens = await pollDeviceAuthorizationGrant(config, device)
console.log('The API says:', await callApi(tokens.access_token))

const fresh = await refreshTokenGrant(config, tokens.refresh_token as string)
console.log('And with a new token:', await callApi(fresh.access_token))

await tokenRevocation(config, fresh.refresh_token as string)
console.log('After the logout:', await callApi(fresh.access_token))

async function callApi (token: string): Promise<string> {
  const response = await fetch(`${baseUrl}/api/hello`, { headers: { authorization: `Bearer ${token}` } })
  return `${response.status} ${await response.text()}`
}
