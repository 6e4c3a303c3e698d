import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

// Registers the clients and users of the matrix by the API of the administrator: node setup.js <address> <folder>

const [address, folder] = process.argv.slice(2)
const api = `${address}/api`
const AUDIENCE = 'https://api.interop.example'
let cookie = ''

async function call (method, path, json) {
  const response = await fetch(`${api}${path}`, {
    method,
    headers: { 'content-type': 'application/json', connection: 'close', cookie },
    body: JSON.stringify(json)
  })
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  return response
}

async function logIn () {
  for (let tries = 0; ; tries++) {
    try {
      const response = await call('POST', '/auth/', { username: 'admin', password: 'password' })
      cookie = response.headers.getSetCookie().map((line) => line.split(';', 1)[0]).join('; ')
      return
    } catch (error) {
      if (tries === 60) throw error
      await delay(500)
    }
  }
}

const plugin = {
  module: 'oidc',
  name: 'oidc',
  display_name: 'OpenID Connect',
  parameters: {
    iss: `${api}/oidc`,
    'jwt-type': 'rsa',
    'jwt-key-size': '256',
    key: readFileSync(`${folder}/key.pem`, 'utf8'),
    cert: readFileSync(`${folder}/public.pem`, 'utf8'),
    'access-token-duration': 3600,
    'refresh-token-duration': 1209600,
    'code-duration': 600,
    'refresh-token-rolling': true,
    'refresh-token-one-use': 'always',
    'allow-non-oidc': true,
    'auth-type-code-enabled': true,
    'auth-type-client-enabled': true,
    'auth-type-refresh-enabled': true,
    'auth-type-device-enabled': true,
    'device-authorization-expiration': 600,
    'device-authorization-interval': 1,
    'jwks-show': true,
    'pkce-allowed': true,
    'subject-type': 'public',
    'allowed-scope': ['openid', 'profile', 'email', 'api'],
    'name-claim': 'mandatory',
    'email-claim': 'mandatory',
    claims: [{ name: 'roles', 'user-property': 'roles', type: 'string', mandatory: true, scope: [] }],
    'introspection-revocation-allowed': true,
    'introspection-revocation-allow-target-client': true,
    'session-management-allowed': true,
    'session-cookie-name': 'GLEWLWYD2_OIDC_SID',
    'session-cookie-expiration': 2419200,
    'front-channel-logout-allowed': true,
    'back-channel-logout-allowed': true,
    'resource-allowed': true,
    'resource-scope': { openid: [AUDIENCE], api: [AUDIENCE] },
    'oauth-dpop-allowed': true,
    'oauth-dpop-iat-duration': 60,
    'oauth-dpop-iat-gap-duration': 10
  }
}

function clientOf (id, secret, port, more) {
  const baseUrl = `http://127.0.0.1:${port}`
  return {
    client_id: id,
    name: id,
    client_secret: secret,
    confidential: true,
    enabled: true,
    redirect_uri: [`${baseUrl}/auth/callback`],
    post_logout_redirect_uri: `${baseUrl}/auth/logged-out`,
    authorization_type: ['code', 'refresh_token', 'device_authorization'],
    token_endpoint_auth_method: ['client_secret_basic'],
    ...more
  }
}

function backChannel (port) {
  return {
    backchannel_logout_uri: `http://127.0.0.1:${port}/auth/backchannel-logout`,
    backchannel_logout_session_required: 'true'
  }
}

const clients = [
  clientOf('interop-web', 'interop-web-secret-0123456789-abcdef', 8970, {
    ...backChannel(8970),
    // For introspection, a client needs client_credentials.
    authorization_type: ['code', 'refresh_token', 'device_authorization', 'client_credentials']
  }),
  clientOf('interop-other', 'interop-other-secret-0123456789-abcd', 8971, backChannel(8971)),
  clientOf('interop-framed', 'interop-framed-secret-0123456789-abc', 8972, {
    frontchannel_logout_uri: 'http://127.0.0.1:8972/auth/frontchannel-logout',
    frontchannel_logout_session_required: 'true'
  }),
  clientOf('interop-asking', 'interop-asking-secret-0123456789-abc', 8970),
  clientOf('interop-odd', 'odd/secret+with%20&=~"(100%)\' and-more', 8970),
  clientOf('interop-service', 'interop-service-secret-0123456789-ab', 8970, {
    authorization_type: ['client_credentials'],
    scope: ['api']
  })
]

function userOf (username, password, roles) {
  return {
    username,
    name: `${username} Example`,
    password,
    email: `${username}@example.com`,
    enabled: true,
    scope: ['g_profile', 'openid', 'profile', 'email'],
    roles
  }
}

async function addRolesToUsers () {
  const module = await (await fetch(`${api}/mod/user/database`, { headers: { cookie, connection: 'close' } })).json()
  module.parameters['data-format'].roles = { multiple: true, read: true, write: true }
  await call('PUT', '/mod/user/database', module)
  await call('PUT', '/mod/user/database/reset/', {})
}

await logIn()
await addRolesToUsers()
for (const name of ['profile', 'email', 'api']) {
  await call('POST', '/scope/', { name, display_name: name, password_required: true, password_max_age: 0 })
}
await call('PUT', '/scope/openid', { name: 'openid', display_name: 'OpenID', password_required: true, password_max_age: 0 })
await call('POST', '/mod/plugin/', plugin)
for (const client of clients) await call('POST', '/client/', client)
await call('POST', '/user/', userOf('alice', 'alice-password-1', ['admin']))
await call('POST', '/user/', userOf('bob', 'bob-password-2', []))
console.log(`glewlwyd: ${api}/oidc`)
