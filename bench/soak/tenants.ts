import { TENANTS } from './application.ts'
import { attempt, isExcusedLogin, isOf } from './member.ts'
import { callApi } from './api.ts'
import { pick } from './pick.ts'
import { codeIn, describe, isExplained, setsSession } from './world.ts'
import { newMember } from './users.ts'
import type { Page } from '../../lib/testing/index.ts'
import type { MintCommand } from './provider.ts'
import type { World } from './world.ts'

/** Users of tenants. Those of all tenants have the same identifiers, so only the tenant tells them apart. */

const USES = 6

export async function simulateTenants (world: World): Promise<void> {
  while (!world.isOver()) {
    const [own, other] = pick([TENANTS, [...TENANTS].reverse()]) as [string, string]
    await useSession(world, own, other)
    await useToken(world, own, other)
  }
}

async function useSession (world: World, own: string, other: string): Promise<void> {
  const user = { ...newMember(world), sub: 'the same in all tenants' }
  const { browser, since } = user
  const { ledger, timeline } = world
  const query = new URLSearchParams({ login_hint: user.sub, return_to: `/tenants/t/${own}/me` })
  const page = await attempt(world, async () => await browser.goto(`/tenants/auth/${own}/login?${query.toString()}`))
  const hasSession = page?.history.some(({ setCookie }) => setsSession(setCookie, '-tenant'))
  if (hasSession !== true || page?.status !== 200) {
    if (isExcusedLogin(world, page, since)) return
    ledger.check('lost logins', false, () => `${describe(page as Page)}, ${timeline.describe()}`)
    return
  }
  ledger.check('lost logins', true, String)
  ledger.count('logins of users of tenants')
  for (let uses = 0; uses < USES && !world.isOver(); uses++) {
    const from = Date.now()
    const page = await attempt(world, async () => await browser.fetch(`/tenants/t/${own}/me`))
    const isThere = isOf(user, page, from)
    if (isThere) checkTenant(world, page as Page, own)
    else if (page === undefined || !isExplained(timeline, page.status, codeIn(page.text()), from)) return
    const crossing = await attempt(world, async () => await browser.fetch(`/tenants/t/${other}/me`))
    ledger.check('tenant crossings', crossing?.status !== 200, () => `a session of ${own} at ${other}`)
  }
  await attempt(world, async () => await browser.post('/tenants/auth/logout'))
}

function checkTenant ({ ledger, issuers }: World, page: Page, own: string): void {
  ledger.check('tenant crossings', page.json().iss === issuers.tenants[own], () => `${page.text()} at ${own}`)
}

async function useToken (world: World, own: string, other: string): Promise<void> {
  const { ledger, timeline, provider } = world
  const from = Date.now()
  const token = await provider.ask<string>('mint', { tenant: own, options: { sub: 'a client' } } satisfies MintCommand)
  const answer = await callApi(world, token, `/tenants/t/${own}/me`)
  if (!(answer instanceof Error) && !timeline.excuses(from, 'clock', 'connection')) {
    const isRight = [200, 503].includes(answer.statusCode)
    ledger.check('good tokens refused', isRight, () => `token of ${own} ${answer.statusCode}, ${timeline.describe()}`)
  }
  for (const url of [`/tenants/t/${other}/me`, '/api']) {
    const crossing = await callApi(world, token, url)
    const isAccepted = !(crossing instanceof Error) && crossing.statusCode === 200
    ledger.check('tenant crossings', !isAccepted, () => `a token of ${own} at ${url}`)
  }
}
