import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { FRESH } from '../application.ts'
import { users } from '../clients.ts'
import { arrived, visitor } from '../lab.ts'
import type { Behaviour } from './behaviour.ts'

export const logIn: Behaviour = async ({ start, visit }) => {
  const app = await start('web')
  const browser = app.browser()
  const who = visitor()
  arrived(await visit(browser, '/auth/login', who), app, '/')
  assert.ok(who.asked.includes('password'), 'the provider did not ask for the password')
  const session = await browser.fetch('/auth/session')
  assert.equal(session.status, 200, `no session: ${session.text()}`)
}

export const guardedPage: Behaviour = async ({ start, visit }) => {
  const app = await start('web')
  const page = await visit(app.browser(), '/me?tab=2')
  arrived(page, app, '/me?tab=2')
  assert.equal(page.json().email, users.alice.email, `the claims have no e-mail address: ${page.text()}`)
}

export const roles: Behaviour = async ({ start, visit }) => {
  const app = await start('web')
  arrived(await visit(app.browser(), '/admin'), app, '/admin')
  arrived(await visit(app.browser(), '/admin', visitor({ user: users.bob })), app, '/admin', 403)
}

// The clocks are those of one machine, and real time passes: a provider has no other clock.
export const stepUp: Behaviour = async ({ start, visit }) => {
  const app = await start('web', { clockTolerance: 0 })
  const browser = app.browser()
  arrived(await visit(browser, '/me'), app, '/me')
  await delay((FRESH + 2) * 1000)
  const who = visitor()
  arrived(await visit(browser, '/fresh', who), app, '/fresh')
  assert.ok(who.asked.includes('password'), 'the provider did not ask for the password again')
}

export const silentLogin: Behaviour = async ({ start, visit, goOn }) => {
  const app = await start('web')
  const stranger = visitor()
  const anonymous = app.browser()
  const page = await goOn(anonymous, await anonymous.goto('/silent'), stranger)
  assert.deepEqual(stranger.asked, [], 'prompt=none showed a page to a browser without a login')
  arrived(page, app, '/silent')
  assert.equal(page.json().sub, null)

  const browser = app.browser()
  arrived(await visit(browser, '/me'), app, '/me')
  for (const { name } of browser.cookies.list().filter(({ name }) => name.startsWith('interop-'))) {
    browser.cookies.delete(name)
  }
  const user = visitor()
  const silent = await visit(browser, '/silent', user)
  assert.deepEqual(user.asked, [], 'prompt=none showed a page to a user who is logged in')
  arrived(silent, app, '/silent')
  const said = app.log.at(-1) ?? ''
  assert.notEqual(silent.json().sub, null, `prompt=none did not log in a user whom the provider knows: ${said}`)
}

export const refusedConsent: Behaviour = async ({ start, visit }) => {
  const app = await start('asking', { authorizationParams: { prompt: 'consent' } })
  const refuser = visitor({ consents: false })
  const page = await visit(app.browser(), '/me', refuser)
  assert.ok(refuser.asked.includes('consent'), 'the provider did not ask for consent')
  assert.equal(app.errors.at(-1)?.code, 'FST_OIDC_PROVIDER_REFUSED', `no refusal: ${page.status} ${page.text()}`)
  assert.equal(page.status, 403)
  arrived(await visit(app.browser(), '/me', visitor()), app, '/me')
}
