import assert from 'node:assert/strict'
import { arrived } from '../lab.ts'
import type { Behaviour } from './behaviour.ts'

export const wrongSecret: Behaviour = async ({ start, visit }) => {
  const app = await start('web', {}, { clientSecret: 'not-the-secret-of-this-client-0123456789' })
  const page = await visit(app.browser(), '/me')
  const error = app.errors.at(-1)
  assert.equal(error?.code, 'FST_OIDC_CLIENT_AUTHENTICATION', `${page.status} ${error?.code} ${error?.detail}`)
  assert.equal(page.status, 503)
  const line = app.log.find((line) => line.includes('FST_OIDC_CLIENT_AUTHENTICATION')) ?? ''
  assert.match(line, /clientSecret/, 'the log does not name clientSecret')
}

export const oddSecret: Behaviour = async ({ start, visit }) => {
  const app = await start('odd')
  arrived(await visit(app.browser(), '/me'), app, '/me')
}
