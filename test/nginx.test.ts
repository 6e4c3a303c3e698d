import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { client, startProvider, testCertificate } from '../lib/testing/index.ts'
import { SESSION_KEY, optionsFor } from './support/app.ts'
import { compile } from './support/compile.ts'
import { enlargeTokens } from './support/enlarge.ts'
import { freePort } from './support/free-port.ts'
import { skipWithoutNginx, startNginx } from './support/nginx.ts'
import { startProcess } from './support/processes.ts'
import type { ProviderOptions, TestBrowser } from '../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

const [, DOCUMENTED] = /```nginx\n(.*?)```/s.exec(readFileSync('docs/operations.md', 'utf8')) as unknown as [string, string]

t.test('K10 nginx with TLS and a path in front of two processes', { skip: skipWithoutNginx }, async (t) => {
  const providerOptions: ProviderOptions = { refreshTokens: 'always' }
  const identity = await startProvider(providerOptions)
  t.teardown(async () => await identity.close())
  const script = join(compile(t), 'test/support/process.js')
  const processes = [await startProcess(t, script), await startProcess(t, script)]
  const tls = testCertificate()

  const site = async (directives: string) => {
    const port = await freePort()
    const baseUrl = `https://localhost:${port}/portal`
    const options = optionsFor(identity, { baseUrl, claims: [], timeout: 60, session: { key: SESSION_KEY } })
    const upstreams = await Promise.all(processes.map(async ({ listen }) => await listen(options)))
    const open = (): TestBrowser => client({ baseUrl, ca: tls.cert })
    return { baseUrl, open, port, path: '/portal', upstreams, directives }
  }
  const [plain, documented] = [await site(''), await site(DOCUMENTED)]
  await startNginx(t, tls, [plain, documented])

  const visit = async ({ baseUrl, open }: typeof plain): Promise<{ status: number, page: string, hint: boolean }> => {
    const browser = open()
    const { status, url } = await browser.goto(`${baseUrl}/me?x=1`)
    if (status !== 200) return { status, page: new URL(url).pathname, hint: false }
    for (let turn = 0; turn < 4; turn++) {
      t.equal((await browser.goto(`${baseUrl}/token`)).status, 200, 'either process opens the tokens')
    }
    identity.clearRequests()
    await browser.post(`${baseUrl}/auth/logout`, { return_to: `${baseUrl}/me` }, { from: `${baseUrl}/` })
    const end = identity.requests.find(({ endpoint }) => endpoint === 'end_session')
    const hint = { ...end?.query, ...end?.body }['id_token_hint'] !== undefined
    return { status, page: url.slice(new URL(url).origin.length), hint }
  }

  const good = { status: 200, page: '/portal/me?x=1' }
  t.same(await visit(plain), { ...good, hint: true }, 'ordinary tokens')
  identity.clearFaults()
  enlargeTokens(identity, { access_token: 500, refresh_token: 0, id_token: 1500 })
  t.same(await visit(plain), { ...good, hint: false }, 'a large ID token is left out')
  identity.clearFaults()
  enlargeTokens(identity, { access_token: 2000, refresh_token: 1400, id_token: 1200 })
  t.match(await visit(plain), { status: 502, page: '/portal/auth/callback' }, 'these need larger buffers')
  t.match(await visit(documented), good, 'as docs/operations.md says')
})
