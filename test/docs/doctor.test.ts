import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import Fastify from 'fastify'
import oidc from '../../index.ts'
import { USAGE } from '../../lib/doctor/cli.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { diagnose } from '../support/doctor.ts'
import { freePort } from '../support/free-port.ts'
import { openPage } from '../support/pages.ts'
import { testKey } from '../support/keys.ts'
import { startedProvider } from '../support/started.ts'
import type { OidcOptions } from '../../index.ts'

const page = openPage('docs/doctor.md')

t.test('each command of the page runs', async (t) => {
  const provider = await startedProvider(t)
  const secret = String(provider.clients[0]?.client_secret)
  const commands = page.blocks.filter(({ language }) => language === 'sh').map(({ code }) => code.trim())
  t.equal(commands.length, 3)
  for (const command of commands) {
    const port = await freePort()
    const [npx, name, doctor, ...args] = command.replace('https://id.example.com', provider.issuer).split(' ')
    t.same([npx, name, doctor], ['npx', 'fastify-oidc', 'doctor'])
    const { status } = await diagnose([...args, '--port', String(port)], { OIDC_CLIENT_SECRET: secret }, (text) => {
      const url = /log in: (\S+)/.exec(text)?.[1]
      if (url !== undefined) client({ baseUrl: new URL(url).origin }).goto(url).catch(t.threw)
    })
    t.equal(status, 0, command)
  }
})

t.test('the page names all arguments, members and codes', async (t) => {
  const flags = [...USAGE.matchAll(/^ {2}(--[\w-]+)/gm)].map(([, flag]) => `\`${flag}\``)
  t.same([...page.rowsOf('argument').keys()].slice(1).sort(), flags.sort())
  const provider = await startedProvider(t)
  const { report } = await diagnose([provider.issuer])
  t.same([...page.rowsOf('member').keys()], Object.keys(report).map((member) => `\`${member}\``))
  const sources = readdirSync('lib/doctor').map((file) => readFileSync(`lib/doctor/${file}`, 'utf8')).join('\n')
  const codes = [...sources.matchAll(/'(?:error|warning|note)', '([a-z_]+)'|'((?:metadata|keys)_(?:unavailable|invalid))'/g)]
  const named = new Set(codes.map(([, code, failure]) => `\`${code ?? failure}\``))
  t.same([...page.rowsOf('code').keys()].sort(), [...named].sort())
})

t.test('the options of the doctor are those of an application that logs users in', async (t) => {
  const provider = await startProvider({ clients: [{ client_id: "o'web", client_secret: 's', token_endpoint_auth_method: 'client_secret_post' }] })
  t.teardown(async () => await provider.close())
  const { report } = await diagnose([provider.issuer, '--client-id', "o'web", '--client-secret-env', 'WEB_SECRET'], { WEB_SECRET: 's' })
  const app = Fastify()
  t.teardown(async () => await app.close())
  const environment = { WEB_SECRET: 's', OIDC_SESSION_KEY: testKey(3) }
  const body = report.snippet.replace(/^import .*\n/, '')
  // eslint-disable-next-line no-new-func
  await Function('oidc', 'app', 'process', `return (async () => { ${body} })()`)(oidc, app, { env: environment })
  app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => oidcClaims?.sub)
  t.equal((await client({ app, baseUrl: 'https://app.example.com' }).goto('/me')).text(), 'alice')
  const options: Partial<OidcOptions> = report.options
  t.match(options, { clientId: "o'web", clientAuth: 'client_secret_post' })
})
