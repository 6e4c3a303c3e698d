import t from 'tap'
import { OidcError } from '../../index.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { BASE_URL, SESSION_KEY } from '../support/app.ts'
import type { OidcOptions } from '../../index.ts'

const PNG = 'data:image/png;base64,iVBORw0KGgo='

function parse (pages: unknown) {
  const options = { issuer: 'https://id.example.com', clientId: 'web', clientSecret: 'secret', baseUrl: BASE_URL }
  return parseOptions({ ...options, session: { key: SESSION_KEY }, pages } as OidcOptions).pages
}

t.test('the defaults of "pages"', async (t) => {
  const defaults = {
    name: undefined,
    logo: undefined,
    host: 'app.example.com',
    theme: 'auto',
    language: undefined,
    messages: {},
    render: undefined
  }
  t.same([parse(undefined), parse({})], [defaults, defaults])
})

t.test('a logo is an image in a data: URI', async (t) => {
  for (const logo of [
    PNG, 'DATA:image/PNG;BASE64,iVBORw0KGgo=', 'data:image/jpeg;base64,/9j/4AAQ', 'data:image/gif;base64,R0lGODdh',
    'data:image/webp;base64,UklGRg', 'data:image/avif;base64,AAAA', 'data:image/svg+xml,%3Csvg/%3E',
    'data:image/svg+xml;charset=utf-8,<svg xmlns="http://www.w3.org/2000/svg"/>', 'data:image/svg+xml;base64,PHN2Zy8%2B'
  ]) t.equal(parse({ logo }).logo, logo)
})

t.test('FST_OIDC_OPTION for every wrong value, with a reason', async (t) => {
  const wrong: Array<[pages: unknown, message: string]> = [
    [null, '"pages" must be an object'],
    ['Shop', '"pages" must be an object'],
    [{ title: 'Shop' }, '"pages.title" is not an option'],
    [{ name: '' }, '"pages.name" is empty'],
    [{ name: 5 }, '"pages.name" must be a non-empty string'],
    ...[
      'https://example.com/logo.png', '/logo.png', 'logo.png', 'data:text/html,<b>', 'data:image/html,x', 'data:,x',
      'data:image/pngs,x', ' data:image/png,x', 'javascript:alert(1)', 'data:text/html;image/png,x'
    ].map((logo): [unknown, string] => [{ logo }, '"pages.logo" must be a data: URI of an image (PNG, JPEG, GIF, WebP, ' +
      'AVIF or SVG), because the pages load nothing']),
    [{ logo: '' }, '"pages.logo" is empty'],
    [{ logo: Buffer.from('x') }, '"pages.logo" must be a non-empty string'],
    [{ logo: 'data:image/png;base64,' }, '"pages.logo" has no image in it'],
    [{ logo: 'data:image/png;base64' }, '"pages.logo" has no image in it'],
    [{ logo: 'data:image/png;base64,<svg>' }, '"pages.logo" has no image in it'],
    [{ logo: 'data:image/svg+xml,' }, '"pages.logo" has no image in it'],
    [{ logo: `data:image/png;base64,${'A'.repeat(100_000)}` }, '"pages.logo" must have at most 100000 characters'],
    [{ theme: 'blue' }, '"pages.theme" must be one of light, dark, auto'],
    [{ language: 'sv' }, '"pages.language" must be one of en, de, fr, es, pt, it, nl, pl, ja, zh'],
    [{ language: 'de-DE' }, '"pages.language" must be one of en, de'],
    [{ language: 'constructor' }, '"pages.language" must be one of en, de'],
    [{ messages: [] }, '"pages.messages" must be an object'],
    [{ messages: { logout: 'x' } }, '"pages.messages.logout" is neither a text nor a language of the pages'],
    [{ messages: { sv: {} } }, '"pages.messages.sv" is neither a text nor a language of the pages'],
    [{ messages: { toString: 'x' } }, '"pages.messages.toString" is neither a text nor a language of the pages'],
    [{ messages: JSON.parse('{ "__proto__": "x" }') }, '"pages.messages.__proto__" is neither a text nor a language'],
    [{ messages: { logOut: '' } }, '"pages.messages.logOut" is empty'],
    [{ messages: { logOut: () => 'x' } }, '"pages.messages.logOut" must be a non-empty string'],
    [{ messages: { tryAgain: 5 } }, '"pages.messages.tryAgain" must be a non-empty string'],
    [{ messages: { de: 'Abmelden' } }, '"pages.messages.de" must be an object'],
    [{ messages: { de: { logout: 'x' } } }, '"pages.messages.de.logout" is neither a text nor a language of the pages'],
    [{ messages: { de: { fr: {} } } }, '"pages.messages.de.fr" is neither a text nor a language of the pages'],
    [{ messages: { de: { FST_OIDC_STATE: null } } }, '"pages.messages.de.FST_OIDC_STATE" must be a non-empty string'],
    [{ render: '<html>' }, '"pages.render" must be a function']
  ]
  for (const [pages, message] of wrong) {
    const title = JSON.stringify(pages).slice(0, 80)
    try {
      parse(pages)
      t.fail(title)
    } catch (error) {
      t.ok(error instanceof OidcError && error.code === 'FST_OIDC_OPTION' && error.message.startsWith(message),
        `${title}: ${(error as Error).message}`)
    }
  }
})
