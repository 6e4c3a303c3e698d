import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { until } from '../../test/support/until.ts'
import { users } from '../clients.ts'
import { arrived } from '../lab.ts'
import type { Behaviour } from './behaviour.ts'

export const userinfo: Behaviour = async ({ start, visit }) => {
  const app = await start('web')
  const browser = app.browser()
  const me = await visit(browser, '/me')
  arrived(me, app, '/me')
  const page = await browser.fetch('/auth/userinfo')
  assert.equal(page.status, 200, `UserInfo: ${page.status} ${page.text()} ${app.log.at(-1)}`)
  assert.equal(page.json().sub, me.json().sub)
  assert.equal(page.json().email, users.alice.email)
}

const TABS = 20

// The request to the provider waits until all requests of the browser are there: only then they are parallel.
export const refresh: Behaviour = async ({ start, visit }) => {
  let refreshes = 0
  const app = await start('web', {
    fetch: async (url, init) => {
      if (init.body instanceof URLSearchParams && init.body.get('grant_type') === 'refresh_token') {
        refreshes++
        await until(() => app.tokenRequests() >= TABS)
      }
      return await fetch(url, init)
    }
  })
  const browser = app.browser()
  arrived(await visit(browser, '/me'), app, '/me')
  const before = app.logins.at(-1)
  assert.ok(before?.refresh_token !== undefined, 'the provider sent no refresh token')
  const pages = await Promise.all(Array.from({ length: TABS }, () => browser.fetch('/token?refresh')))
  const failed = pages.find(({ status }) => status !== 200)
  assert.ok(failed === undefined, `a refresh failed: ${failed?.status} ${failed?.text()} ${app.log.at(-1)}`)
  const tokens = new Set(pages.map((page) => page.json().token))
  assert.equal(tokens.size, 1, `${TABS} requests got ${tokens.size} access tokens`)
  assert.ok(!tokens.has(before.access_token), 'the access token is the old one')
  assert.equal(refreshes, 1, `${TABS} requests led to ${refreshes} requests to the provider`)
  const again = await browser.fetch('/token?refresh')
  assert.equal(again.status, 200, `the second refresh failed: ${again.text()} ${app.log.at(-1)}`)
}

export const deviceFlow: Behaviour = async ({ start, visit, metadata }) => {
  assert.ok(metadata['device_authorization_endpoint'], 'the metadata has no device_authorization_endpoint')
  const app = await start('web', {
    store: 'memory:',
    broker: { audience: 'https://app.interop.example', nativeClients: { clientIds: ['interop-cli'] } }
  })
  const device = await post(`${app.baseUrl}/auth/device`, { client_id: 'interop-cli' })
  assert.ok(device.device_code, `no device code: ${JSON.stringify(device)} ${app.log.at(-1)}`)
  const browser = app.browser()
  await visit(browser, device.verification_uri_complete ?? device.verification_uri ?? '')
  const grant = {
    grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
    device_code: device.device_code,
    client_id: 'interop-cli'
  }
  let tokens = await post(`${app.baseUrl}/auth/token`, grant)
  for (let polls = 0; polls < 5 && /authorization_pending|slow_down/.test(tokens.error ?? ''); polls++) {
    await delay((Number(device.interval ?? 5) + 1) * 1000)
    tokens = await post(`${app.baseUrl}/auth/token`, grant)
  }
  assert.ok(tokens.access_token, `no access token: ${JSON.stringify(tokens)} ${app.log.at(-1)}`)
}

async function post (url: string, form: Record<string, string>): Promise<Record<string, string>> {
  const response = await fetch(url, { method: 'POST', body: new URLSearchParams(form) })
  return await response.json() as Record<string, string>
}
