import t from 'tap'
import { defaultsOf, memberNames, openPage } from '../support/pages.ts'

const page = openPage('docs/options.md')

/** The rows of all tables, by the names of the options. */
const rows = new Map(page.text.split('\n').filter((line) => line.startsWith('| `')).flatMap((line) => {
  const [names = '', fallback = ''] = line.slice(2, -2).split(' | ')
  return [...names.matchAll(/`([\w.]+)`/g)].map(([, name]) => [name as string, fallback] as const)
}))

const groups = [
  { prefix: '', types: ['ProviderOptions', 'OidcOptions', 'RegistrationOptions'] },
  { prefix: 'pages.', types: ['PageOptions'] },
  { prefix: 'session.', types: ['SessionOptions'] },
  { prefix: 'routes.', types: ['RouteOptions'] },
  { prefix: 'bearer.', types: ['BearerOptions'] },
  { prefix: 'broker.', types: ['BrokerOptions'] }
]

t.test('the tables have every option', async (t) => {
  const names = groups.flatMap(({ prefix, types }) => memberNames(...types).map((name) => prefix + name))
  t.ok(names.length > 80)
  t.same([...rows.keys()].sort(), [...new Set(names)].sort())
})

t.test('the defaults are those of the types', async (t) => {
  let compared = 0
  for (const { prefix, types } of groups) {
    for (const [name, fallback] of types.flatMap((type) => defaultsOf(type))) {
      t.ok(rows.get(prefix + name)?.includes(fallback), `${prefix}${name}: ${fallback} in ${rows.get(prefix + name)}`)
      compared += 1
    }
  }
  t.ok(compared > 40, `${compared} defaults`)
})
