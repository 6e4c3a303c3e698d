import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, registrationOf } from '../support/app.ts'
import { loadExample } from '../support/example.ts'

const { buildApp } = await loadExample<typeof import('../../example/two-providers/app.ts')>('two-providers/app')

t.test('customers and employees log in at different providers', async (t) => {
  const [customers, employees] = [await startProvider(), await startProvider({ users: [{ sub: 'eve' }] })]
  t.teardown(async () => await Promise.all([customers.close(), employees.close()]))
  const options = { baseUrl: BASE_URL, allowInsecureLoopback: true, timeout: 20, session: { key: SESSION_KEY } }
  const app = await buildApp(options, {
    customers: registrationOf(customers), employees: registrationOf(employees)
  }, {})
  t.teardown(async () => await app.close())
  const browser = client({ app, baseUrl: BASE_URL })

  t.match((await browser.goto('/')).text(), '<h1>Two providers</h1>')
  const choice = await browser.goto('/account')
  t.match(choice.text(), /Customers[^]*Employees/, 'the user chooses')
  t.match((await browser.goto('/shop')).json(), { page: 'for customers', sub: 'alice' })
  t.match((await browser.goto('/account')).json(), { provider: 'customers', sub: 'alice' })
  t.match((await browser.goto('/intranet')).json(), { page: 'for employees', sub: 'eve' })
  t.match((await browser.goto('/account')).json(), { provider: 'employees', sub: 'eve' }, 'one session at a time')
  t.equal((await browser.fetch('/shop')).status, 401, 'which does not count at the other one')
  t.same([customers.count('token'), employees.count('token')], [1, 1])
})
