import t from 'tap'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { SESSION_KEY, buildApp, logIn, optionsFor } from '../support/app.ts'
import { createGate } from '../support/gate.ts'
import type { Gate } from '../support/gate.ts'
import type { Store } from '../../index.ts'

t.setTimeout(120_000) // where other work shares the cores

const provider = await startProvider({ refreshTokens: 'always' })
t.teardown(async () => await provider.close())

t.test('3 a refresh that saves its tokens while updateUser runs does not take the user back', async (t) => {
  const memory = createMemoryStore()
  let gate: Gate | undefined
  const store: Store = {
    ...memory,
    async replace (key, ...others) {
      if (key.startsWith('session:')) await gate?.pass()
      return await memory.replace(key, ...others)
    }
  }
  const session = { key: SESSION_KEY, store: true }
  const onClaims = () => ({ n: 0 })
  const app = await buildApp(t, optionsFor(provider, { offlineAccess: true, store, session, onClaims }))
  app.post('/both', { preHandler: app.oidc.required() }, async (request) => {
    const saving = gate = createGate()
    const token = app.oidc.accessToken(request, { refresh: true })
    await saving.reached
    await app.oidc.updateUser(request, { n: 1 })
    saving.open()
    await token
    gate = undefined
    return { user: request.oidcUser, later: (await app.oidc.session(request))?.user }
  })
  const browser = await logIn({ app, provider }, 'alice')
  t.same((await browser.fetch('/both', { method: 'POST', json: {} })).json(), { user: { n: 1 }, later: { n: 1 } })
  t.same((await browser.fetch('/me')).json().user, { n: 1 })
})
