import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type { Application } from '../application.ts'
import { arrived, visitor } from '../lab.ts'
import type { Lab } from '../lab.ts'
import type { Behaviour } from './behaviour.ts'

export const atProvider: Behaviour = async ({ start, visit, goOn }) => {
  const app = await start('web')
  const browser = app.browser()
  arrived(await visit(browser, '/me'), app, '/me')
  arrived(await goOn(browser, await browser.post('/auth/logout')), app, '/')
  assert.equal((await browser.fetch('/auth/session')).status, 401, 'the session lives on')
  const who = visitor()
  arrived(await visit(browser, '/me', who), app, '/me')
  assert.ok(who.asked.includes('password'), 'the session at the provider lives on')
}

// Two applications of one process and one host share one budget of cookies.
const session = { tokens: ['id_token' as const] }

export const backChannel: Behaviour = async (lab) => {
  await logOutElsewhere(lab, await lab.start('web', { session }))
}

export const frontChannel: Behaviour = async (lab) => {
  await logOutElsewhere(lab, await lab.start('framed', { session }))
}

/** Logs a user in at two applications, and out at one. The provider tells the other one. */
async function logOutElsewhere ({ start, visit, goOn }: Lab, app: Application): Promise<void> {
  const other = await start('other', { session })
  const browser = app.browser()
  arrived(await visit(browser, `${app.baseUrl}/me`), app, '/me')
  arrived(await visit(browser, `${other.baseUrl}/me`), other, '/me')
  await goOn(browser, await browser.post(`${other.baseUrl}/auth/logout`, '', { from: other.baseUrl }))
  for (let tries = 0; tries < 30; tries++) {
    if ((await browser.fetch(`${app.baseUrl}/auth/session`)).status === 401) return
    await delay(100)
  }
  assert.fail(`the other application did not hear of the logout: ${app.log.at(-1) ?? ''}`)
}
