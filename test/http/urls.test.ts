import fc from 'fast-check'
import t from 'tap'
import { parseOptions } from '../../lib/options/settings.ts'
import { createUrls, safeUrl } from '../../lib/http/urls.ts'
import { SESSION_KEY, startApp } from '../support/app.ts'

const BASE = 'https://app.example.com'
const safe = (value: unknown): string | null => safeUrl(value, BASE, BASE)

/** The origin to which a browser goes from a page of the application. */
const target = (location: string): string => new URL(location, `${BASE}/auth/callback`).origin

const hostile: string[] = [
  // the parser of browsers reads another host
  '//evil.com',
  '///evil.com',
  '////evil.com',
  '\\\\evil.com',
  '/\\evil.com',
  '\\/evil.com',
  '/\\/evil.com',
  '//\\evil.com',
  'https:\\evil.com',
  'https:\\\\evil.com',
  'http:evil.com',
  '//evil.com:443',
  'https://evil.com',
  'HTTPS://EVIL.COM',
  'https://app.example.com.evil.com',
  'https://app.example.com@evil.com',
  'https://app.example.com%40evil.com',
  'https://evil.com#@app.example.com',
  'https://evil.com?app.example.com',
  'https://evil.com/app.example.com',
  '//evil.com/%2f..',
  '//evil%E3%80%82com',
  // looks like this origin, but is not
  'http://app.example.com/',
  'https://app.example.com:444/',
  'https://example.com/',
  'https://evilapp.example.com/',
  'https://app.example.com./',
  'https://user@app.example.com/',
  'https://user:pass@app.example.com/',
  // another host when written as a path alone (finding 6)
  '/.//evil.com',
  '/..//evil.com',
  '/./\\evil.com',
  '/%2e//evil.com',
  '/%2E%2E//evil.com',
  '/a/..//evil.com',
  '/a/../..//evil.com',
  './/evil.com',
  '..//evil.com',
  '/.//evil.com/%2e%2e',
  // control characters, which parsers remove
  '/\t/evil.com',
  '/\n/evil.com',
  '/\r/evil.com',
  '\t//evil.com',
  '\u0000//evil.com',
  '/\u0009/evil.com',
  'ht\ntps://evil.com',
  '/a\r\nLocation: https://evil.com',
  '/\u007f/evil.com',
  '\u0001https://evil.com',
  // other schemes
  'javascript:alert(1)',
  'JaVaScRiPt:alert(1)',
  'java\nscript:alert(1)',
  'data:text/html,<script>alert(1)</script>',
  'vbscript:x',
  'file:///etc/passwd',
  'blob:https://app.example.com/x',
  'ftp://app.example.com/',
  'ws://app.example.com/',
  'about:blank',
  'mailto:a@evil.com',
  // broken
  'http://[',
  'https://[::1',
  'https://%',
  'https://a b',
  '//',
  '///',
  'https://',
  'https://app.example.com:99999/'
]

t.test('V1 V2 V3 S48 finding 6: no hostile return_to is safe', async (t) => {
  for (const value of hostile) t.equal(safe(value), null, JSON.stringify(value))
  for (const value of [undefined, null, 7, {}, ['/x'], `/${'x'.repeat(16_384)}`, `/${'é'.repeat(5500)}`]) {
    t.equal(safe(value), null)
  }
})

t.test('V1 hostile text that stays on the own origin is written so that it does', async (t) => {
  for (const value of [
    '/ /evil.com', ' //app.example.com/x', '/%09/evil.com', '/%5cevil.com', '/%2f%2fevil.com', 'https:evil.com',
    'https:/evil.com', '/;@evil.com', '/@evil.com', '/?x=//evil.com', '/#//evil.com', 'evil.com',
    '/evil.com:443', '?x', '#x', '', '.', '..', '/%00', '/x%0d%0aset-cookie:a=b'
  ]) {
    const href = safe(value)
    t.equal(href === null ? BASE : target(href), BASE, JSON.stringify(value))
    if (href !== null) t.match(href, /^https:\/\/app\.example\.com\/[\x21-\x7e]*$/)
  }
})

t.test('R21 return_to with Unicode is percent-encoded', async (t) => {
  t.equal(safe('/straße/日本?q=😀#é'), `${BASE}/stra%C3%9Fe/%E6%97%A5%E6%9C%AC?q=%F0%9F%98%80#%C3%A9`)
  t.equal(safe('/a b'), `${BASE}/a%20b`)
  t.equal(safe('/\ud800'), `${BASE}/%EF%BF%BD`)
  t.equal(safe('https://app.example.com/x?y=1'), `${BASE}/x?y=1`)
  t.equal(safe('me'), `${BASE}/me`)
})

t.test('S48 R35 every return_to that is safe leads to the own origin', async () => {
  const piece = fc.constantFrom(
    '/', '//', '\\', '.', '..', '%2e', '%2f', '%5c', '@', ':', 'evil.com', 'app.example.com', 'https:', 'http:',
    '\t', '\n', '\r', ' ', '\u0000', '?', '#', ';', '[', ']', '。', 'é', '\ud800', '%', '%00', 'a'
  )
  const text = fc.oneof(
    fc.array(piece, { maxLength: 9 }).map((parts) => parts.join('')),
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.webUrl()
  )
  fc.assert(
    fc.property(text, (value) => {
      const href = safe(value)
      if (href === null) return true
      const url = new URL(href)
      return (
        url.origin === BASE &&
        target(url.pathname) === BASE &&
        target(href) === BASE &&
        /^[\x21-\x7e]+$/.test(href) &&
        safe(href) === href
      )
    }),
    { numRuns: 5000 }
  )
})

t.test(
  'V1 V4 V6 R20 over HTTP, a hostile return_to leads to the application or is refused, and is never a 5xx',
  async (t) => {
    const { app, browser } = await startApp(t)
    for (const value of hostile) {
      const page = await browser
        .clone()
        .goto(`/auth/login?return_to=${encodeURIComponent(value)}`, {
          until: (url) => url.origin === BASE && url.pathname !== '/auth/callback'
        })
      const location = page.location ?? ''
      t.ok(
        page.status === 400 || (page.status === 302 && target(location) === BASE),
        `${JSON.stringify(value)}: ${page.status} ${location}`
      )
      if (page.status === 302) t.equal(location, `${BASE}/`)
    }
    for (const query of [
      'return_to=/a&return_to=/b',
      'return_to[]=/a',
      'return_to=%',
      'return_to=%FF',
      'return_to=%00',
      `return_to=/${'x'.repeat(10_000)}`,
      'return_to',
      'return_to=',
      '__proto__=x',
      'return_to=%ED%A0%80'
    ]) {
      const { statusCode } = await app.inject(`/auth/login?${query}`)
      t.ok([302, 400].includes(statusCode), `${query.slice(0, 40)}: ${statusCode}`)
    }
  }
)

t.test(
  'V3 V7 a guarded address that looks like another host, or like parameters, only comes back to itself',
  async (t) => {
    const { app, browser, provider } = await startApp(t)
    app.get('/*', { preHandler: app.oidc.required() }, async () => 'inside')
    for (const path of [
      '//evil.com/x', '//evil.com',
      '/x?scope=admin&audience=evil&redirect_uri=https://evil.com&return_to=https://evil.com', '/.//evil.com'
    ]) {
      const { headers, statusCode } = await app.inject({ url: path, headers: { accept: 'text/html' } })
      t.equal(statusCode, 302, path)
      const asked = new URL(headers.location as string)
      t.equal(asked.origin, provider.issuer)
      t.same([...asked.searchParams.keys()].sort(), [
        'client_id', 'code_challenge', 'code_challenge_method', 'nonce', 'redirect_uri', 'response_type',
        'scope', 'state'
      ])
      t.equal(asked.searchParams.get('scope'), 'openid profile email')
      t.equal(asked.searchParams.get('redirect_uri'), `${BASE}/auth/callback`)
    }
    const page = await browser.goto('/x?scope=admin&redirect_uri=https://evil.com')
    t.equal(page.url, `${BASE}/x?scope=admin&redirect_uri=https://evil.com`)
    t.equal(page.status, 200)
  }
)

t.test('V5 R38 a request target in absolute form does not name the way back', async (t) => {
  const urls = createUrls(
    parseOptions({
      issuer: 'https://id.example.com',
      clientId: 'web',
      baseUrl: `${BASE}/app`,
      session: { key: SESSION_KEY }
    }),
    '/tenant'
  )
  const back = (originalUrl: string): string => urls.request({ originalUrl } as never)
  t.equal(back('/me?x=1'), `${BASE}/app/me?x=1`)
  t.equal(back('https://evil.com/me'), `${BASE}/app/`)
  t.equal(back('*'), `${BASE}/app/`)
  t.equal(urls.route('/auth/callback'), `${BASE}/app/tenant/auth/callback`)
})
