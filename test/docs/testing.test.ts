import t from 'tap'
import { openPage } from '../support/pages.ts'

const page = openPage('docs/testing.md')
const names = [
  'users see their own page',
  'only admins see the admin page',
  'only own pages change the name',
  'an expired access token is refreshed once',
  'a login survives an outage of the provider',
  'the provider ends the session of a user'
]
const all = [...names.slice(0, 5), 'a forged ID token is refused', ...names.slice(5)]

t.test('the tests of an application', async (t) => {
  const { status, stdout } = page.runTests(t, names)
  t.equal(status, 0, stdout)
  for (const [index, name] of all.entries()) t.match(stdout, `\nok ${index + 1} - ${name}\n`)
  t.match(stdout, `\n# pass ${all.length}\n`)
})

t.test('the application of the tests', async (t) => {
  // The tests above import it.
  t.match(page.take('export async function buildApp'), "baseUrl: 'http://localhost:3000'")
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
