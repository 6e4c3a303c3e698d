import t from 'tap'
import { BASE_URL, startApp } from '../support/app.ts'
import { DEVICE, EXCHANGE, REDIRECT_URI, pkce, clientsOf } from '../support/broker.ts'
import type { Provider } from '../../lib/testing/index.ts'

t.test('the token endpoint passes the provider\'s tokens through without a broker', async (t) => {
  const lines: string[] = []
  const { app, provider } = await startApp(
    t,
    { routes: { token: 'token', device: 'device' } },
    { deviceInterval: 1 },
    {
      logger: {
        level: 'warn',
        stream: {
          write: (line: string) => {
            lines.push(line)
          }
        }
      }
    }
  )
  t.equal(lines.filter((line) => line.includes('without a certain audience')).length, 1)
  const { post, token } = clientsOf(app, provider)
  const { device_code: deviceCode } = (await post('device', {})).json()
  t.equal(provider.requests.at(-1)?.body['scope'], 'openid profile email', 'the scope comes from the options')
  provider.approveDevice()
  const answer = (await token({ grant_type: DEVICE, device_code: deviceCode })).json()
  t.match(answer, {
    access_token: String,
    token_type: 'Bearer',
    expires_in: Number,
    expires: Number,
    scope: 'openid profile email'
  })
  const { refresh_token: refreshToken } = await tokensOf(provider)
  t.match((await token({ grant_type: 'refresh_token', refresh_token: refreshToken, scope: 'openid' })).json(), {
    access_token: String,
    refresh_token: String,
    scope: 'openid'
  })
  t.match((await token({ grant_type: 'refresh_token', refresh_token: 'x' })).json(), { error: 'invalid_grant' })
  t.match(
    (
      await token({ grant_type: 'authorization_code', code: 'x', redirect_uri: REDIRECT_URI, code_verifier: 'y' })
    ).json(),
    { error: 'invalid_grant' }
  )
  t.match(provider.requests.at(-1)?.body, {
    code: 'x',
    redirect_uri: REDIRECT_URI,
    code_verifier: 'y',
    grant_type: 'authorization_code'
  })
  t.match((await token({ grant_type: EXCHANGE, subject_token: 'x' })).json(), { error: 'unsupported_grant_type' })
  provider.fault({
    on: 'token',
    answer: (given) => {
      Object.assign(given, { status: 200, body: JSON.stringify({ access_token: 'x', token_type: 'bearer' }) })
    }
  })
  t.same((await token({ grant_type: 'refresh_token', refresh_token: 'x' })).json(), {
    access_token: 'x',
    token_type: 'Bearer'
  })
  t.equal(
    (await (await startApp(t)).app.inject({ method: 'POST', url: '/auth/token' })).statusCode,
    404,
    'the route exists only when it is configured'
  )
})

/** Tokens of the provider for offline access. */
async function tokensOf (provider: Provider): Promise<{ refresh_token: string }> {
  const { challenge, verifier } = pkce()
  const redirectUri = `${BASE_URL}/auth/callback`
  const query = new URLSearchParams({
    client_id: 'web',
    response_type: 'code',
    redirect_uri: redirectUri,
    scope: 'openid profile email offline_access',
    code_challenge: challenge,
    code_challenge_method: 'S256',
    state: 'x'.repeat(22),
    nonce: 'y'.repeat(22),
    prompt: 'consent'
  })
  const { location } = Object.fromEntries(
    (await fetch(`${provider.issuer}/authorize?${query.toString()}`, { redirect: 'manual' })).headers
  ) as { location: string }
  const code = new URL(location).searchParams.get('code') as string
  const authorization = `Basic ${Buffer.from(`web:${provider.clients[0]?.client_secret as string}`).toString('base64')}`
  const response = await fetch(`${provider.issuer}/token`, {
    method: 'POST',
    headers: { authorization },
    body: new URLSearchParams({
      grant_type: 'authorization_code',
      code,
      redirect_uri: redirectUri,
      code_verifier: verifier
    })
  })
  return (await response.json()) as { refresh_token: string }
}

t.test('V33 the token endpoint refuses codes of the callback route, and codes without PKCE', async (t) => {
  const { app, provider } = await startApp(t, { routes: { token: 'token' }, audience: 'x' })
  const { token } = clientsOf(app, provider)
  const { verifier, challenge } = pkce()
  const codeFor = async (redirectUri: string): Promise<string> => {
    const query = new URLSearchParams({
      client_id: 'web',
      response_type: 'code',
      redirect_uri: redirectUri,
      scope: 'openid',
      state: 'x'.repeat(22),
      nonce: 'y'.repeat(22),
      code_challenge: challenge,
      code_challenge_method: 'S256'
    })
    const response = await fetch(`${provider.issuer}/authorize?${query.toString()}`, { redirect: 'manual' })
    return new URL(response.headers.get('location') as string).searchParams.get('code') as string
  }
  const own = `${BASE_URL}/auth/callback`
  const sent = { grant_type: 'authorization_code', code: await codeFor(own), code_verifier: verifier }
  provider.clearRequests()
  for (const redirectUri of [
    own,
    'HTTPS://APP.example.com/auth/callback',
    'https://app.example.com:443/auth/./callback'
  ]) {
    t.match((await token({ ...sent, redirect_uri: redirectUri })).json(), { error: 'invalid_grant' }, redirectUri)
  }
  t.match((await token(sent)).json(), { error: 'invalid_request', error_description: /redirect_uri/ })
  const { code_verifier: _, ...without } = sent
  t.match(
    (await token({ ...without, redirect_uri: REDIRECT_URI })).json(),
    { error: 'invalid_request', error_description: /code_verifier/ },
    'S4 PKCE is required'
  )
  t.equal(provider.count('token'), 0)
})
