import t from 'tap'
import { openPage } from '../support/pages.ts'

const page = openPage('docs/testing.md')
const names = [
  'users see their own page',
  'only admins see the admin page',
  'an expired access token is refreshed once',
  'a login survives an outage of the provider',
  'the provider ends the session of a user'
]
const all = [...names.slice(0, 4), 'a forged ID token is refused', ...names.slice(4)]

t.test('the tests of an application', async (t) => {
  const { status, stdout } = page.runTests(t, names)
  t.equal(status, 0, stdout)
  for (const [index, name] of all.entries()) t.match(stdout, `\nok ${index + 1} - ${name}\n`)
  t.match(stdout, `\n# pass ${all.length}\n`)
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
