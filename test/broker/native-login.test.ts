import { decodeJwt } from 'jose'
import fc from 'fast-check'
import t from 'tap'
import { refuse } from '../../index.ts'
import { isAllowedRedirect } from '../../lib/broker/native-login.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { client } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor } from '../support/app.ts'
import { AUDIENCE, REDIRECT_URI, pkce, start, followToNative } from '../support/broker.ts'
import type { LightMyRequestResponse } from 'fastify'
import type { Tokens } from '../support/broker.ts'

t.test('S4 a native application logs in with a code of the broker and PKCE', async (t) => {
  const { app, provider, browser, token, api } = await start(t)
  const { verifier, challenge } = pkce()
  const query = {
    response_type: 'code',
    client_id: 'cli',
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    state: 'its state',
    scope: 'openid email offline_access'
  }
  const back = await followToNative(browser, query)
  t.equal(back.origin + back.pathname, REDIRECT_URI)
  t.match(Object.fromEntries(back.searchParams), { code: String, state: 'its state', iss: BASE_URL })
  const asked = provider.requests.find(({ endpoint }) => endpoint === 'authorize')
  t.match(asked, { query: { redirect_uri: `${BASE_URL}/auth/callback`, scope: 'openid profile email offline_access' } })
  t.not(asked?.query['code_challenge'], challenge, 'the request to the provider has a challenge of its own')
  t.notOk(
    browser.cookies.list(BASE_URL).some(({ name }) => /^(?:__Host-)?oidc(?:-tokens.*)?$/.test(name)),
    'the login creates no session'
  )

  const code = back.searchParams.get('code') as string
  const redeem = async (more: Record<string, string> = {}): Promise<LightMyRequestResponse> =>
    await token({
      grant_type: 'authorization_code',
      code,
      redirect_uri: REDIRECT_URI,
      code_verifier: verifier,
      client_id: 'cli',
      ...more
    })
  const tokens = (await redeem()).json() as Tokens
  t.match(decodeJwt(tokens.access_token), { sub: 'alice', client_id: 'cli', scope: 'openid email offline_access' })
  t.equal((await api(tokens.access_token)).statusCode, 200)
  t.match((await redeem()).json(), { error: 'invalid_grant' }, 'S4 a code is valid once')
  t.equal(
    (await api(tokens.access_token)).statusCode,
    401,
    'RFC 6749, section 4.1.2: reuse of the code revokes its tokens'
  )

  const wrong: Array<Record<string, string>> = [
    { code_verifier: pkce().verifier },
    { code_verifier: '' },
    { redirect_uri: 'http://127.0.0.1:53101/callback' },
    { client_id: 'web' },
    { code: 'x' }
  ]
  for (const more of wrong) {
    const other = await followToNative(client({ app, baseUrl: BASE_URL }), query)
    t.match(
      (await redeem({ code: other.searchParams.get('code') as string, ...more })).json(),
      { error: 'invalid_grant' },
      JSON.stringify(more)
    )
  }
  const parallel = await followToNative(client({ app, baseUrl: BASE_URL }), query)
  const answers = await Promise.all(
    Array.from({ length: 10 }, async () => await redeem({ code: parallel.searchParams.get('code') as string }))
  )
  const redeemed = answers.filter(({ statusCode }) => statusCode === 200)
  t.ok(redeemed.length <= 1, 'at most one of ten requests at once succeeds')
  for (const response of redeemed) {
    t.equal((await api(response.json().access_token)).statusCode, 401, 'the other requests revoke its tokens')
  }
})

t.test('S4 a code that is used twice at once gives no tokens', async (t) => {
  let hold = async (): Promise<void> => {}
  const { browser, token, api } = await start(t, { broker: { onIssue: async () => await hold() } })
  const { verifier, challenge } = pkce()
  const back = await followToNative(browser, {
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    scope: 'openid'
  })
  const redeem = async (): Promise<LightMyRequestResponse> =>
    await token({
      grant_type: 'authorization_code',
      code: back.searchParams.get('code') as string,
      redirect_uri: REDIRECT_URI,
      code_verifier: verifier
    })
  const again: LightMyRequestResponse[] = []
  hold = async () => { again.push(await redeem()) }
  const first = await redeem()
  t.match(
    [first.json(), again[0]?.json()],
    [{ error: 'invalid_grant', access_token: undefined }, { error: 'invalid_grant' }],
    'both requests fail'
  )
  t.match((await redeem()).json(), { error: 'invalid_grant' })
  t.equal((await api(String(first.json().access_token))).statusCode, 401)
})

t.test('S48 a native login redirects only to loopback and to registered addresses', async (t) => {
  const { app, provider } = await start(t, {
    broker: {
      nativeClients: { clientIds: ['cli'], redirectUris: ['https://tool.example.com/done', 'com.example.tool:/done'] }
    }
  })
  const { challenge } = pkce()
  const login = (more: Record<string, string>): string => {
    const query = new URLSearchParams({
      redirect_uri: REDIRECT_URI,
      code_challenge: challenge,
      code_challenge_method: 'S256',
      ...more
    })
    return `/auth/login?${query.toString()}`
  }
  const status = async (more: Record<string, string>): Promise<number> => (await app.inject(login(more))).statusCode
  const bad = [
    'https://evil.test/',
    'http://evil.test/',
    'http://127.0.0.1.evil.test/',
    'http://localhost.evil.test/',
    'http://user@localhost:1/',
    'http://localhost:1/#x',
    'http://localhost\\@evil.test/',
    'https://tool.example.com/done/more',
    'https://localhost/',
    'javascript:alert(1)',
    'com.example.tool:/other',
    '//localhost/',
    'x',
    `http://localhost/${'a'.repeat(500)}`
  ]
  for (const uri of bad) t.equal(await status({ redirect_uri: uri }), 400, uri.slice(0, 60))
  const wrong: Array<Record<string, string>> = [
    { response_type: 'token' },
    { client_id: 'other' },
    { code_challenge: 'short' },
    { code_challenge_method: 'plain' },
    { state: 'x'.repeat(501) }
  ]
  for (const more of wrong) t.equal(await status(more), 400, JSON.stringify(more).slice(0, 60))
  t.equal(
    (await app.inject(`/auth/login?redirect_uri=${encodeURIComponent(REDIRECT_URI)}`)).statusCode,
    400,
    'PKCE is required'
  )
  t.equal(provider.count('authorize'), 0)
  for (const uri of [
    'http://localhost:1/x', 'http://[::1]:9/', 'http://127.0.0.1/', 'https://tool.example.com/done',
    'com.example.tool:/done'
  ]) { t.equal(await status({ redirect_uri: uri }), 302, uri) }
  const without = await start(t, { broker: { nativeClients: undefined as never } })
  const ordinary = await without.app.inject(login({}))
  t.match(
    [ordinary.statusCode, ordinary.headers.location?.startsWith(without.provider.issuer)],
    [302, true],
    'without nativeClients the parameters are ignored'
  )
})

t.test('S48 no text makes isAllowedRedirect accept another host', async (t) => {
  const listed = ['https://tool.example.com/done']
  const parts = fc.constantFrom(
    'http://', 'https://', '//', 'localhost', '127.0.0.1', '[::1]', 'evil.test', '@', ':80', '/', '\\', '#',
    '?', '%2f', '.', 'tool.example.com/done', '\t', ' ', 'javascript:'
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(parts, { maxLength: 8 }).map((all) => all.join('')),
        fc.webUrl(),
        fc.string()
      ),
      (value) => {
        if (!isAllowedRedirect(value, listed) || listed.includes(value)) return true
        const { protocol, hostname, username, hash } = new URL(value)
        return (
          protocol === 'http:' &&
          ['localhost', '127.0.0.1', '[::1]'].includes(hostname) &&
          username === '' &&
          hash === ''
        )
      }
    ),
    { numRuns: 5000 }
  )
  t.equal(isAllowedRedirect('http://localhost:1/', listed), true)
})

t.test('S4 a native login refuses parameters that do not fit in a cookie', async (t) => {
  const { app } = await start(t)
  const { challenge } = pkce()
  const query = new URLSearchParams({
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    scope: 'a'.repeat(501)
  })
  t.equal((await app.inject(`/auth/login?${query.toString()}`)).statusCode, 400)
})

t.test('a native login goes back to its application, wherever onClaims sends browsers', async (t) => {
  const seen: unknown[] = []
  const { browser } = await start(t, {
    onClaims: (_claims, { appState, redirectTo }) => {
      seen.push(appState)
      redirectTo('/welcome')
    }
  })
  const { challenge } = pkce()
  const query = { redirect_uri: REDIRECT_URI, code_challenge: challenge, code_challenge_method: 'S256' }
  const back = await followToNative(browser, query)
  t.equal(back.origin + back.pathname, REDIRECT_URI)
  t.match(Object.fromEntries(back.searchParams), { code: String, iss: BASE_URL })
  t.same(seen, [undefined])
})

t.test('a native login that fails redirects the error to the native application', async (t) => {
  const { app, provider } = await start(t, {
    onClaims: (claims) => {
      if (claims.sub === 'mallory') throw refuse('no')
    }
  })
  const { challenge } = pkce()
  const query = {
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    prompt: 'consent',
    offline_access: 'true'
  }
  const errorOf = async (): Promise<string | null> =>
    (await followToNative(client({ app, baseUrl: BASE_URL }), query)).searchParams.get('error')
  provider.options.approve = () => 'mallory'
  t.equal(await errorOf(), 'access_denied')
  t.equal(provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['prompt'], 'consent')
  provider.options.approve = () => 'alice'
  const off = provider.fault({ on: 'token', status: 503, body: '' })
  t.equal(await errorOf(), 'temporarily_unavailable')
  off()
  provider.fault({ on: 'token', garbage: 'html' })
  t.equal(await errorOf(), 'server_error')
  const down = await start(t, { timeout: 0.2 })
  down.provider.fault({ on: 'metadata', hang: true })
  t.equal(
    (await followToNative(down.browser, query)).searchParams.get('error'),
    'temporarily_unavailable',
    'a login that cannot begin redirects as well'
  )
})

t.test('a repeated callback begins the native login again', async (t) => {
  const { browser } = await start(t)
  const { challenge } = pkce()
  const query = new URLSearchParams({
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256'
  })
  const { location: toProvider } = await browser.step(`/auth/login?${query.toString()}`)
  const { location: callback } = await browser.step(toProvider as string)
  t.match((await browser.step(callback as string)).location, /^http:\/\/127\.0\.0\.1:53100/)
  const again = await browser.step(callback as string)
  t.match(again.location, /\/authorize\?/)
  const { location: second } = await browser.step(again.location as string)
  t.match((await browser.step(second as string)).location, /^http:\/\/127\.0\.0\.1:53100\/callback\?code=/)
})

t.test('a pending native login ends with an error after a restart with other options', async (t) => {
  const { provider, browser } = await start(t)
  const store = createMemoryStore()
  const { challenge } = pkce()
  const login = new URLSearchParams({
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256'
  })
  const begun = await browser.step(`/auth/login?${login.toString()}`)
  const { location } = await browser.step(begun.location as string)
  const callback = new URL(location as string)
  const cookie = browser.cookies.list(BASE_URL).map(({ name, value }) => `${name}=${value}`).join('; ')
  for (const options of [{}, { store }, { store, broker: { audience: AUDIENCE } }]) {
    const app = await buildApp(t, optionsFor(provider, options))
    for (const query of [
      callback.search,
      `?error=access_denied&state=${callback.searchParams.get('state') as string}`
    ]) {
      const response = await app.inject({
        url: `/auth/callback${query}`,
        headers: { cookie, accept: 'application/json' }
      })
      t.match(
        [response.statusCode, response.json()],
        [400, { code: 'FST_OIDC_STATE' }],
        JSON.stringify(Object.keys(options))
      )
    }
  }
  t.equal(provider.count('token'), 0)
})

t.test('py-oidc-auth-client works without changes', async (t) => {
  const { browser, provider, post, token, api } = await start(t, { broker: { nativeClients: { pkceRequired: false } } })
  const device = await post('device', {}, { 'content-length': '0' })
  t.match(device.json(), { device_code: String })
  const pending = await token({ 'device-code': device.json().device_code })
  t.match(
    [pending.statusCode, pending.json()],
    [400, { error: 'authorization_pending', error_description: String, detail: String }]
  )
  provider.approveDevice()
  const tokens = (await token({ 'device-code': device.json().device_code })).json()
  t.match(tokens, {
    access_token: String,
    token_type: 'Bearer',
    expires: Number,
    refresh_token: String,
    refresh_expires: Number,
    scope: String
  })
  t.match((await token({ 'refresh-token': tokens.refresh_token })).json(), { access_token: String })

  for (const state of [undefined, 'its own']) {
    const back = await followToNative(browser, {
      redirect_uri: REDIRECT_URI,
      offline_access: 'true',
      prompt: 'consent',
      ...(state !== undefined && { state })
    })
    const verifier = back.searchParams.get('state')?.split('|').at(-1) as string
    t.notOk(
      provider.requests.some(({ query }) => query['state'] === verifier),
      'the verifier is not sent to the provider as state'
    )
    const answer = await token({
      code: back.searchParams.get('code') as string,
      redirect_uri: REDIRECT_URI,
      grant_type: 'authorization_code',
      code_verifier: verifier
    })
    t.equal((await api(answer.json().access_token)).statusCode, 200)
  }
  const { verifier, challenge } = pkce()
  const back = await followToNative(browser, {
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    state: 's'
  })
  t.match(
    (
      await token({ code: back.searchParams.get('code') as string, redirect_uri: REDIRECT_URI, code_verifier: 's' })
    ).json(),
    { error: 'invalid_grant' },
    'a request with a challenge uses real PKCE'
  )
  t.ok(verifier)
  const me = await api(tokens.access_token, '/auth/userinfo')
  t.same(me.json(), {
    sub: 'alice',
    username: 'alice',
    last_name: me.json().last_name,
    first_name: me.json().first_name,
    pw_name: 'alice',
    email: 'alice@example.com'
  })
})
