import t from 'tap'
import { openDatabase } from '../../lib/store/sqlite.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, logIn, optionsFor } from '../support/app.ts'
import { loadExample } from '../support/example.ts'
import { skipWithoutSqlite } from '../support/services.ts'
import type { Database } from 'better-sqlite3'

const { buildApp } = await loadExample<typeof import('../../example/users/app.ts')>('users/app')

t.test('the application has its own users and roles', { skip: skipWithoutSqlite }, async (t) => {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice <b>' }, { sub: 'bob' }] })
  t.teardown(async () => await provider.close())
  const database = await openDatabase(':memory:') as unknown as Database
  const app = await buildApp(optionsFor(provider), database, {})
  t.teardown(async () => { await app.close(); database.close() })
  t.match((await client({ app, baseUrl: BASE_URL }).goto('/')).text(), 'Log in</a>')

  const alice = await logIn({ app, provider }, 'alice')
  const bob = await logIn({ app, provider }, 'bob')
  t.match((await alice.goto('/')).text(), /Hello, Alice &lt;b&gt;[^]*user 1[^]*an administrator/)
  t.match((await bob.goto('/')).text(), /Hello, bob[^]*user 2 in the database\./)
  t.match((await alice.goto('/admin')).text(), /administrator[^]*Make admin/)
  t.equal((await bob.goto('/admin')).status, 403, 'the second user is no administrator')
  t.equal((await bob.post('/admin/users/2', { change: 'make admin' })).status, 403, 'and cannot become one')

  const change = async (change: string) => await alice.post('/admin/users/2', { change })
  t.equal((await change('make admin')).url, `${BASE_URL}/admin`)
  t.equal((await bob.goto('/admin')).status, 200, 'a role counts at once')
  await change('no longer admin')
  t.equal((await bob.goto('/admin')).status, 403, 'also when it is taken')

  t.match((await change('block')).text(), 'blocked')
  t.match((await bob.goto('/')).text(), 'Log in</a>', 'a blocked user is logged out')
  provider.options.approve = () => 'bob'
  const refused = await bob.goto('/auth/login')
  t.equal(refused.status, 403)
  t.match(refused.text(), 'Your account is blocked.')
  await change('unblock')
  t.match((await bob.goto('/auth/login?return_to=/')).text(), /Hello, bob[^]*user 2/, 'the same user as before')

  t.equal((await change('delete')).status, 400)
  t.equal((await alice.post('/admin/users/one', { change: 'block' })).status, 400)
  const foreign = await alice.post('/admin/users/2', { change: 'block' }, { from: 'https://evil.example/' })
  t.equal(foreign.status, 401, 'the form of another site has no session')
})
