import { generateKeyPairSync } from 'node:crypto'
import { Agent, ProxyAgent } from 'undici'
import t from 'tap'
import { client, startClock, testCertificate } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp } from '../support/app.ts'
import { startOidcProvider } from '../support/oidc-provider.ts'
import { startProxy } from '../support/proxy.ts'
import { freePort } from '../support/free-port.ts'
import type { JWK } from 'jose'
import type { OidcOptions, ProviderOptions } from '../../index.ts'
import type { Page } from '../../lib/testing/index.ts'
import type { ClientMetadata, OidcProviderOptions } from '../support/oidc-provider.ts'

/** One of the twelve providers: its configuration, and the options of the application. */
interface One {
  client: Partial<ClientMetadata>
  provider?: OidcProviderOptions
  options: Partial<ProviderOptions>
}

const secret = 'a secret: with + % & = and 32 bytes'
const server = testCertificate('127.0.0.1')
const ours = testCertificate('web of fastify-oidc')
const signing = keyPair({ alg: 'PS256', kid: 'signing', use: 'sig' })
const encryption = keyPair({ kid: 'encryption', use: 'enc' })
const trusting = { ca: server.cert }

function keyPair (members: Partial<JWK>): { publicKey: JWK, privateKey: JWK } {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return {
    publicKey: { ...publicKey.export({ format: 'jwk' }), ...members },
    privateKey: { ...privateKey.export({ format: 'jwk' }), ...members }
  }
}

function twelve (proxy: string): Record<string, One> {
  return {
    basic: {
      client: { token_endpoint_auth_method: 'client_secret_basic', client_secret: secret },
      options: { clientSecret: secret }
    },
    post: {
      client: { token_endpoint_auth_method: 'client_secret_post', client_secret: secret },
      options: { clientAuth: 'client_secret_post', clientSecret: async () => secret }
    },
    'secret-jwt': {
      client: {
        token_endpoint_auth_method: 'client_secret_jwt',
        client_secret: secret,
        token_endpoint_auth_signing_alg: 'HS256'
      },
      options: { clientAuth: 'client_secret_jwt', clientSecret: secret }
    },
    'private-key-jwt': {
      client: {
        token_endpoint_auth_method: 'private_key_jwt',
        jwks: { keys: [signing.publicKey] },
        token_endpoint_auth_signing_alg: 'PS256'
      },
      options: { clientKey: () => signing.privateKey }
    },
    certificate: {
      client: { token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'CN=web of fastify-oidc' },
      provider: { tls: { ...server, ca: ours.cert } },
      options: { clientAuth: 'tls_client_auth', dispatcher: new Agent({ connect: { ...trusting, ...ours } }) }
    },
    public: { client: { token_endpoint_auth_method: 'none' }, options: {} },
    'behind-a-proxy': {
      client: { client_secret: secret },
      provider: { tls: server },
      options: { clientSecret: secret, dispatcher: new ProxyAgent({ uri: proxy, requestTls: trusting }) }
    },
    'own-ca': {
      client: { client_secret: secret },
      provider: { tls: server },
      options: { clientSecret: secret, dispatcher: new Agent({ connect: trusting }) }
    },
    'form-post': { client: { client_secret: secret }, options: { clientSecret: secret, responseMode: 'form_post' } },
    encrypted: {
      client: {
        client_secret: secret,
        jwks: { keys: [encryption.publicKey] },
        id_token_encrypted_response_alg: 'RSA-OAEP-256',
        id_token_encrypted_response_enc: 'A256GCM',
        userinfo_signed_response_alg: 'RS256'
      },
      provider: { configuration: { enabledJWA: { idTokenEncryptionAlgValues: ['RSA-OAEP-256'] } } },
      options: {
        clientSecret: secret,
        idTokenEncryption: { alg: 'RSA-OAEP-256', enc: 'A256GCM' },
        decryptionKey: [encryption.privateKey],
        userinfo: true,
        userinfoSigningAlg: 'RS256'
      }
    },
    pushed: {
      client: {
        token_endpoint_auth_method: 'private_key_jwt',
        jwks: { keys: [signing.publicKey] },
        token_endpoint_auth_signing_alg: 'PS256'
      },
      provider: {
        configuration: {
          features: { pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: true } }
        }
      },
      options: { clientKey: signing.privateKey }
    },
    down: { client: { client_secret: secret }, options: { clientSecret: secret } }
  }
}

t.test('S16 S52 twelve providers in one application: eleven log in, and the twelfth when it is back', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const proxy = await startProxy()
  t.teardown(async () => await proxy.close())
  const all = twelve(proxy.url)
  const port = await freePort()

  const start = async (name: string): Promise<string> => {
    const { client, provider } = all[name] as One
    const registered = {
      client_id: 'web',
      redirect_uris: [`${BASE_URL}/auth/${name}/callback`],
      post_logout_redirect_uris: [`${BASE_URL}/auth/logged-out`],
      grant_types: ['authorization_code', 'refresh_token'],
      ...client
    }
    const { issuer, register, close } = await startOidcProvider({
      autoLogin: `${name}'s alice`,
      ...provider,
      ...(name === 'down' && { port })
    })
    await register(registered)
    t.teardown(close)
    return issuer
  }

  const providers: NonNullable<OidcOptions['providers']> = {}
  for (const [name, { options }] of Object.entries(all)) {
    const issuer = name === 'down' ? `http://127.0.0.1:${port}` : await start(name)
    providers[name] = { issuer, clientId: 'web', offlineAccess: true, ...options }
  }
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    session: { key: SESSION_KEY },
    allowInsecureLoopback: true,
    providers
  })
  app.get('/userinfo', { preHandler: app.oidc.required() }, async (request) => await app.oidc.userinfo(request))
  const browserOf = () => client({ app, baseUrl: BASE_URL, ca: server.cert })

  /** Opens a page and chooses a provider, as a user does. */
  const logInWith = async (name: string): Promise<{ page: Page, browser: ReturnType<typeof browserOf> }> => {
    const browser = browserOf()
    const choice = await browser.goto('/me')
    t.equal(choice.url, `${BASE_URL}/auth/login?return_to=https%3A%2F%2Fapp.example.com%2Fme`)
    const link = choice
      .text()
      .match(new RegExp(`href="([^"]*/auth/${name}/login[^"]*)"`))?.[1]
      ?.replaceAll('&#38;', '&') as string
    return { page: await browser.goto(link), browser }
  }

  t.equal(
    new Set((await browserOf().goto('/auth/login')).text().match(/\/auth\/[\w-]+\/login/g)).size,
    12,
    'the page offers all twelve'
  )

  for (const name of Object.keys(all).filter((name) => name !== 'down')) {
    const { page, browser } = await logInWith(name)
    t.match(
      [page.status, page.url],
      [200, `${BASE_URL}/me`],
      `${name}: ${page
        .text()
        .replace(/.*<main>/s, '')
        .slice(0, 200)}`
    )
    t.match(
      page.json(),
      { claims: { sub: `${name}'s alice`, iss: providers[name]?.issuer as string }, session: { provider: name } },
      name
    )
    t.equal((await browser.fetch('/userinfo')).json().sub, `${name}'s alice`, `${name}: UserInfo`)
    clock.advance(3600)
    const again = await logInWith(name)
    t.equal(again.page.status, 200, `${name}: a second login`)
    clock.advance(3580)
    t.equal((await again.browser.fetch('/userinfo')).json().sub, `${name}'s alice`, `${name}: after a refresh`)
    const bye = await again.browser.post(
      '/auth/logout',
      {},
      { until: ({ origin }) => origin === providers[name]?.issuer }
    )
    t.ok(
      String(bye.location ?? bye.form?.action).startsWith(`${providers[name]?.issuer}/session/end`),
      `${name}: its own end-session endpoint`
    )
    t.equal((await again.browser.fetch('/me')).status, 401, `${name}: logged out`)
  }
  t.ok(
    proxy.targets.length > 0 &&
      proxy.targets.every((target) => target === new URL(providers['behind-a-proxy']?.issuer as string).host),
    'only the provider behind the proxy uses it'
  )

  const { page: sorry, browser } = await logInWith('down')
  t.match(
    [sorry.status, sorry.headers.get('retry-after'), sorry.headers.get('content-type')],
    [503, '5', /^text\/html/]
  )
  t.match(
    sorry.text(),
    /The identity provider does not answer at the moment\..*FST_OIDC_PROVIDER_UNAVAILABLE.*provider=down/s
  )
  const health = await app.oidc.health()
  t.match(health, {
    status: 'degraded',
    providers: { basic: { status: 'ok' }, down: { status: 'unavailable', code: 'FST_OIDC_PROVIDER_UNAVAILABLE' } }
  })
  t.equal(Object.values(health.providers).filter(({ status }) => status === 'ok').length, 11)

  await start('down')
  clock.advance(2)
  const retry = sorry.text().match(/<a href="([^"]*)"/)?.[1]?.replaceAll('&#38;', '&') as string
  const recovered = await browser.goto(retry)
  t.match(
    [recovered.status, recovered.url],
    [200, `${BASE_URL}/me`],
    'the link of the error page leads to the page of the login'
  )
  t.match(recovered.json(), { claims: { sub: "down's alice" }, session: { provider: 'down' } })
  t.match(await app.oidc.health(), { status: 'ok', providers: { down: { status: 'ok' } } })
})
