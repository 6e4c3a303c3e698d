import { createServer } from 'node:http'
import t from 'tap'
import { faults, startProvider, testCertificate } from '../../lib/testing/index.ts'
import { diagnose, doctor, problemsOf } from '../support/doctor.ts'
import { startedProvider } from '../support/started.ts'
import type { AddressInfo } from 'node:net'
import type { Fault } from '../../lib/testing/index.ts'

t.test('a provider that is in order', async (t) => {
  const provider = await startedProvider(t)
  const { status, report } = await diagnose([provider.issuer, '--base-url', 'https://shop.example/app/'])
  t.equal(status, 0)
  t.same(Object.keys(report), [
    'version', 'issuer', 'usable', 'metadata', 'keys', 'client', 'login', 'findings', 'options', 'snippet', 'register'
  ])
  t.match(report, {
    version: 1,
    issuer: provider.issuer,
    usable: true,
    metadata: {
      url: `${provider.issuer}/.well-known/openid-configuration`,
      endpoints: { token_endpoint: `${provider.issuer}/token` },
      supports: { backchannel_logout_supported: true, code_challenge_methods_supported: ['S256'] }
    },
    keys: [{ kid: 'RS256-1', kty: 'RSA', alg: 'RS256', use: 'sig' }],
    client: null,
    login: null,
    options: { issuer: provider.issuer, baseUrl: 'https://shop.example/app/', allowInsecureLoopback: true },
    register: {
      redirectUri: 'https://shop.example/app/auth/callback',
      postLogoutRedirectUri: 'https://shop.example/app/auth/logged-out',
      backchannelLogoutUri: 'https://shop.example/app/auth/backchannel-logout',
      frontchannelLogoutUri: 'https://shop.example/app/auth/frontchannel-logout'
    }
  })
  t.same(report.findings.map(({ code }) => code), ['weak_signing_algs'])
  t.same(provider.requests.map(({ endpoint }) => endpoint), ['metadata', 'jwks'])
  const { stdout, stderr } = await doctor([provider.issuer])
  t.equal(stderr, '')
  for (const text of [
    `\n  token_endpoint                                  ${provider.issuer}/token\n`,
    '\n  kid      kty  alg    use\n  RS256-1  RSA  RS256  sig\n',
    '\n  redirect URI              https://app.example.com/auth/callback\n',
    '\n  backchannel_logout_supported                    yes\n',
    '\n  require_pushed_authorization_requests           not said\n',
    "\n    clientSecret: process.env.OIDC_CLIENT_SECRET ?? '',\n",
    '\nUsable.\n'
  ]) t.ok(stdout.includes(text), text)
})

t.test('the address of the metadata is as good as the issuer', async (t) => {
  const provider = await startedProvider(t)
  const { report } = await diagnose([`${provider.issuer}/.well-known/openid-configuration`])
  t.match(report, { usable: true, options: { issuer: provider.issuer } })
})

t.test('K12 a failure of the metadata or the keys says the next step', async (t) => {
  const provider = await startedProvider(t)
  const cases: Array<[fault: Fault, code: string, message: RegExp, nextStep: RegExp]> = [
    [faults['metadata-html'], 'metadata_unavailable', /^metadata: 200 text\/html$/, /^This is a page, perhaps of a login/],
    [{ on: 'metadata', status: 404 }, 'metadata_unavailable', /^metadata: 404 /, /\.well-known\/openid-configuration must show JSON/],
    [faults['metadata-503'], 'metadata_unavailable', /: status 503$/, /^The provider does not work at the moment/],
    [faults['metadata-403'], 'metadata_unavailable', /^metadata: 403 /, /make it public/],
    [faults['metadata-redirect'], 'metadata_invalid', /redirects are not followed \(to .*\/attacker\)$/, /^Redirects are never followed/],
    [faults['metadata-truncated'], 'metadata_invalid', /the response is not JSON$/, /must show JSON/],
    [faults['metadata-array'], 'metadata_invalid', /not a JSON object$/, /must show JSON/],
    [faults['metadata-huge'], 'metadata_invalid', /larger than/, /maxResponseBytes/],
    [faults['metadata-reset'], 'metadata_unavailable', /ECONNRESET/, /A firewall or a proxy/],
    [faults['metadata-without-issuer'], 'metadata_invalid', /^the issuer in the metadata is undefined/, /exactly as the provider/],
    [faults['metadata-without-jwks-uri'], 'metadata_invalid', /^jwks_uri from the provider is not a URL$/, /in the option "metadata"$/],
    [faults['metadata-insecure-token-endpoint'], 'metadata_invalid', /^token_endpoint from/, /in the option "metadata"$/],
    [faults['jwks-404'], 'keys_unavailable', /^keys: 404 .*, not a JWK Set/, /\/jwks must show JSON/],
    [faults['jwks-500'], 'keys_unavailable', /: status 500$/, /^The provider does not work/],
    [faults['jwks-no-keys'], 'no_keys', /^no key/, /RSA with at least 2048 bits/]
  ]
  for (const [fault, code, message, nextStep] of cases) {
    provider.clearFaults()
    provider.fault(fault)
    const { status, report } = await diagnose([provider.issuer])
    t.match(report.findings.find(({ level }) => level === 'error'), { code, message, nextStep }, String(message))
    t.equal(status, 1)
  }
})

t.test('K12 a host that is not there, silent, or without a trusted certificate', async (t) => {
  const { cert, key } = testCertificate()
  const provider = await startProvider({ tls: { cert, key } })
  t.teardown(async () => await provider.close())
  const silent = createServer(() => {})
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  t.teardown(() => silent.close().closeAllConnections())
  const { port } = silent.address() as AddressInfo
  const cases: Array<[issuer: string, message: RegExp, nextStep: RegExp]> = [
    ['http://127.0.0.1:1', /ECONNREFUSED$/, /^Nothing listens there/],
    ['https://no-such-host.invalid', /ENOTFOUND|EAI_AGAIN/, /^DNS does not know this name/],
    [`http://127.0.0.1:${port}`, /timeout after 0.5 s$/, /^A firewall may drop the connection/],
    [provider.issuer, /give the certificate authority/, /^Set NODE_EXTRA_CA_CERTS/],
    [provider.issuer.replace('https', 'http'), /ECONNRESET|HPE_/, /./]
  ]
  for (const [issuer, message, nextStep] of cases) {
    const { status, report } = await diagnose([issuer, ...issuer.endsWith(`:${port}`) ? ['--timeout', '0.5'] : []])
    t.match(report.findings, [{ level: 'error', code: 'metadata_unavailable', message, nextStep }], issuer)
    t.equal(status, 1)
  }
})

t.test('K5 another issuer is an error that names the right one, and the rest is read all the same', async (t) => {
  const provider = await startedProvider(t)
  const cases: Array<[published: string, code: string, options: Record<string, unknown> | undefined]> = [
    [`${provider.issuer}/`, 'issuer_slash', { issuer: `${provider.issuer}/` }],
    [`${provider.issuer}/realms/corp`, 'issuer_differs', { issuer: `${provider.issuer}/realms/corp` }],
    [
      'https://public.example', 'issuer_differs',
      { issuer: 'https://public.example', discoveryUrl: `${provider.issuer}/.well-known/openid-configuration` }
    ],
    ['https://login.example/{tenantid}/v2.0', 'issuer_template', undefined]
  ]
  for (const [published, code, options] of cases) {
    provider.options.metadata = { issuer: published }
    const { status, report } = await diagnose([provider.issuer])
    const [first] = report.findings
    t.match(first, { level: 'error', code, message: `the provider calls itself ${published}, not ${provider.issuer}` })
    t.same(first?.options, options)
    t.equal(report.options['issuer'], options?.['issuer'] ?? provider.issuer)
    t.equal(report.keys?.length, 1)
    t.equal(status, 1)
  }
  provider.options.metadata = { issuer: 'not a url' }
  t.same(problemsOf((await diagnose([provider.issuer])).report), ['error metadata_invalid'])
})

t.test('an empty list, and more findings than options', async (t) => {
  const provider = await startedProvider(t)
  provider.options.metadata = { claims_supported: [], end_session_endpoint: undefined, userinfo_endpoint: '/relative' }
  const { stdout } = await doctor([provider.issuer])
  t.match(stdout, /\n {2}claims_supported +none\n/)
  t.match(stdout, /\n {2}end_session_endpoint +none\n/)
  t.ok(stdout.includes('\n  warning  userinfo_endpoint is not a URL: it is not used\n           -> Correct it'))
  t.ok(stdout.includes('\n  note     there is no end_session_endpoint\n           -> A logout is one from your application'))
  provider.options.metadata = { id_token_signing_alg_values_supported: ['HS256'] }
  t.match((await diagnose([provider.issuer])).report, { keys: [{ kty: 'RSA' }], usable: false }, 'keys are examined')
})
