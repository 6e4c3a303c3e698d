import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor } from '../support/app.ts'
import { captureLog } from '../support/protocol.ts'
import type { FastifyReply } from 'fastify'
import type { OidcOptions } from '../../index.ts'

t.setTimeout(120_000) // where other work shares the cores

const provider = await startProvider()
t.teardown(async () => await provider.close())

async function * parts (): AsyncGenerator<string> {
  yield 'one '
  await delay(300)
  yield 'two'
}

const ANSWERS: Array<[name: string, send: (reply: FastifyReply) => unknown]> = [
  ['a stream', (reply) => reply.code(402).send(Readable.from(parts()))],
  ['a text', (reply) => reply.code(402).send('one two')]
]
const ENDS: Array<[name: string, end: () => Promise<never>]> = [
  ['fails', async () => { throw new Error('after the reply') }],
  ['never returns', async () => await new Promise<never>(() => {})]
]

for (const [what, send] of ANSWERS) {
  for (const [how, end] of ENDS) {
    t.test(`a hook that has sent ${what} and then ${how}: that is the answer, and no other follows`, async (t) => {
      const hook = async ({ reply }: { reply: FastifyReply }): Promise<never> => {
        send(reply)
        return await end()
      }
      const cases: Array<[url: string, hooks: Partial<OidcOptions>]> = [
        ['/auth/login?return_to=/me', { onClaims: async (_claims, context) => await hook(context) }],
        ['/auth/callback?state=x', { onError: async (_error, context) => await hook(context) }]
      ]
      for (const [url, hooks] of cases) {
        const { lines, server } = captureLog()
        const app = await buildApp(t, optionsFor(provider, { ...hooks, hookTimeout: 0.1 }), server)
        app.addHook('onSend', async () => { await delay(200) })
        await app.listen({ port: 0, host: '127.0.0.1' })
        const browser = client({ app, baseUrl: BASE_URL })
        const page = await browser.goto(url)
        t.same([page.status, page.text()], [402, 'one two'])
        t.match(lines(), 'a hook failed after it had sent the reply')
        t.notMatch(lines(), 'Reply was already sent')
        t.notMatch(browser.cookies.header(), '__Host-oidc=', 'there is no session')
      }
    })
  }
}

t.test('a hook that replies after its time changes nothing, and the log has no code and no state', async (t) => {
  const { lines, server } = captureLog()
  const app = await buildApp(t, optionsFor(provider, {
    hookTimeout: 0.05,
    onClaims: async (_claims, { reply }) => {
      await delay(200)
      reply.redirect('/late')
    }
  }), server)
  const page = await client({ app, baseUrl: BASE_URL }).goto('/auth/login')
  t.equal(page.status, 503)
  await delay(400)
  t.match(lines(), 'a hook has sent a reply too late')
  t.notMatch(lines(), /already sent|code=|state=/)
})
