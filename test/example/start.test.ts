import t from 'tap'
import { client } from '../../lib/testing/index.ts'
import { loadExample } from '../support/example.ts'
import { freePort } from '../support/free-port.ts'
import { startedProvider } from '../support/started.ts'

t.setTimeout(300_000)

const { PORTS, findSqlite, registrationOf, startExamples } =
  await loadExample<typeof import('../../example/start.ts')>('start')
const { EXAMPLES } = await loadExample<typeof import('../../example/examples.ts')>('examples')

/** The first of so many ports that are free at the same time. */
async function freePorts (count: number): Promise<number> {
  const first = await freePort()
  const rest = await Promise.all(Array.from({ length: count }, async (_, index) => await isFree(first + index)))
  return rest.every(Boolean) ? first : await freePorts(count)
}

async function isFree (port: number): Promise<boolean> {
  return await fetch(`http://localhost:${port}/`).then(() => false, () => true)
}

t.test('the start page leads to each example, and their cookies do not collide', async (t) => {
  const port = await freePorts(PORTS)
  const hasSqlite = await findSqlite()
  const { url, close } = await startExamples({ port, hasSqlite, server: {} })
  t.teardown(close)
  const browser = client({ baseUrl: url })
  const page = await browser.goto('/')
  t.equal(page.status, 200)
  t.match((await browser.goto('/style.css')).headers.get('content-type'), 'text/css')
  const links = [...page.text().matchAll(/href="(http[^"]+)"/g)].map(([, link]) => link as string)
  const started = EXAMPLES.filter(({ needsSqlite = false }) => hasSqlite || !needsSqlite)
  t.equal(links.length, started.length)
  for (const { title, sentence } of EXAMPLES) t.match(page.text(), `${sentence} Its source`, title)
  // The one in two processes takes longer to start, and has a test of its own.
  const others = links.filter((_, index) => started[index]?.name !== 'two-processes')
  const withChoice = links[started.findIndex(({ name }) => name === 'two-providers')]
  for (const link of others) t.ok((await browser.step(link)).status < 400, link)
  const cookies: string[] = []
  for (const link of others) {
    const login = await browser.step(`${link}auth/login${link === withChoice ? '?provider=customers' : ''}`)
    t.match(login.location, /^http:/, link)
    cookies.push(...login.headers.getSetCookie().map((cookie) => cookie.split('=', 1)[0] as string))
  }
  t.equal(cookies.length, others.length)
  t.equal(new Set(cookies).size, cookies.length, 'no cookie of one has the name of another')
})

t.test('without SQLite the others start, with a real provider as well', async (t) => {
  const provider = await startedProvider(t)
  const port = await freePorts(PORTS)
  const real = { issuer: provider.issuer, clientId: 'web', clientSecret: provider.clients[0]?.client_secret as string }
  const { url, close } = await startExamples({ port, client: real, server: {}, hasSqlite: false })
  t.teardown(close)
  const page = await client({ baseUrl: url }).goto('/')
  t.equal(page.text().split('Needs Node.js 22.13').length, 3, 'two say what they need')
  const browser = client({ baseUrl: `http://localhost:${port + 1}` })
  await browser.goto('/auth/login?return_to=/')
  t.match((await browser.fetch('/auth/session')).json(), { claims: { iss: provider.issuer, sub: 'alice' } })
})

t.test('what to register', async (t) => {
  const { redirectUris, postLogoutRedirectUris } = registrationOf(3000)
  t.equal(redirectUris.length, EXAMPLES.length + 1, 'that with two providers has two')
  t.ok(redirectUris.includes('http://localhost:3004/auth/employees/callback'))
  t.equal(postLogoutRedirectUris[0], 'http://localhost:3001/auth/logged-out')
  t.equal(await findSqlite(async () => { throw new Error('no driver') }), false)
})
