import assert from 'node:assert/strict'
import { BASE_URL, SESSION_KEY } from '../support/app.ts'
import { faults, logoutFaults } from '../../lib/testing/index.ts'
import { checkLoggedOut, counter, logIn } from './flows.ts'
import { LOGGED_OUT } from './party.ts'
import type { Fault } from '../../lib/testing/index.ts'
import type { RunModule } from './module.ts'
import type { Party, Start } from './party.ts'

const plan = 'oidcc-client-rp-initiated-logout-rp-basic'
const id = 'oidcc-client-test-rp-init-logout'

const backChannel = 'oidcc-client-back-channel-logout-rp-basic'
const backChannelId = 'oidcc-client-test-rp-backchannel-rpinitlogout'
const wrongTokens: Array<[number: string, suffix: keyof typeof logoutFaults, provider: string]> = [
  ['C28', 'alg-none', 'a logout token with alg none'],
  ['C29', 'no-event', 'a logout token without events'],
  ['C30', 'with-nonce', 'a logout token with a nonce'],
  ['C31', 'wrong-alg', 'a logout token signed with another algorithm than registered'],
  ['C32', 'wrong-aud', 'another aud in the logout token'],
  ['C33', 'wrong-event', 'another event in the logout token'],
  ['C34', 'wrong-iss', 'another iss in the logout token']
]

/** C24-C36 */
export const logoutModules: RunModule[] = [
  { number: 'C24', id, plan, provider: 'returns the state', required: 'accept the return', run: logsOut([], '/maybe') },
  {
    number: 'C25',
    id: `${id}-other-state`,
    plan,
    provider: 'returns a random state',
    required: 'show a page anyway',
    run: logsOut(faults['rp-init-logout-other-state'], '/')
  },
  {
    number: 'C26',
    id: `${id}-no-state`,
    plan,
    provider: 'returns no state',
    required: 'show a page anyway',
    run: logsOut(faults['rp-init-logout-no-state'], '/')
  },
  {
    number: 'C27',
    id: backChannelId,
    plan: backChannel,
    provider: 'a valid logout token, an unknown claim and an unknown field',
    required: '200 exactly, no-store',
    run: takesLogoutToken
  },
  ...wrongTokens.map(([number, suffix, provider]): RunModule => ({
    number,
    id: `${backChannelId}-${suffix}`,
    plan: backChannel,
    provider,
    required: '400',
    run: refusesLogoutToken(suffix)
  })),
  {
    number: 'C35',
    id: 'oidcc-client-test-rp-frontchannel-rpinitlogout',
    plan: 'oidcc-client-front-channel-logout-rp-basic',
    provider: 'frames the logout page after an RP-initiated logout',
    required: 'log out, be frameable',
    run: isFramed(true)
  },
  {
    number: 'C36',
    id: 'oidcc-client-test-rp-frontchannel-opinitlogout',
    plan: 'oidcc-client-logout-test-plan',
    provider: 'frames the logout page on its own',
    required: 'log out, be frameable',
    run: isFramed(false)
  }
]

async function sidOf ({ browser }: Party): Promise<string> {
  return ((await browser.fetch('/me')).json() as { session: { sid: string } }).session.sid
}

async function takesLogoutToken (start: Start): Promise<string> {
  const party = await start()
  const { app, provider } = party
  await logIn(party)
  const answer = await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, {
    app,
    sub: 'alice',
    sid: await sidOf(party),
    ...logoutFaults.valid
  })
  assert.equal(answer.status, 200, `the logout token is answered with ${answer.status}`)
  assert.match(answer.headers.get('cache-control') ?? '', /no-store/, 'the response is not stored')
  assert.equal((await party.browser.fetch('/me')).status, 401, 'the session has ended')
  return '200, no-store, and the session has ended'
}

function refusesLogoutToken (fault: keyof typeof logoutFaults): RunModule['run'] {
  return async (start) => {
    const party = await start()
    const { app, provider } = party
    await logIn(party)
    const token = { app, sub: 'alice', sid: await sidOf(party) }
    const answer = await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, {
      ...token,
      ...logoutFaults[fault]
    })
    assert.equal(answer.status, 400, `the logout token is answered with ${answer.status}`)
    assert.equal((await party.browser.fetch('/me')).status, 200, 'the session continues')
    assert.equal(
      (await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, token)).status,
      200,
      'a right logout token is accepted'
    )
    return `400: ${(JSON.parse(answer.body) as { error_description: string }).error_description.slice(0, 100)}`
  }
}

function isFramed (afterLogout: boolean): RunModule['run'] {
  return async (start) => {
    const party = await start({ options: { session: { key: SESSION_KEY, idleTimeout: 28_800, sameSite: 'none' } } })
    const { browser, provider } = party
    await logIn(party)
    const query = new URLSearchParams({ iss: provider.issuer, sid: await sidOf(party) }).toString()
    if (afterLogout) await browser.post('/auth/logout', '', { until: ({ pathname }) => pathname === '/end-session' })
    const page = await browser.step(`/auth/frontchannel-logout?${query}`, { from: provider.issuer, dest: 'iframe' })
    assert.equal(page.status, 200, `the frame has status ${page.status}`)
    assert.equal(page.headers.get('x-frame-options'), null, 'X-Frame-Options would forbid it')
    assert.ok(
      page.headers.get('content-security-policy')?.includes(`frame-ancestors ${provider.url}`),
      'the provider may frame it'
    )
    await checkLoggedOut(party)
    return 'framed by the provider, and logged out'
  }
}

/** Logs in and out. `arrival` is the page that the browser arrives at. */
function logsOut (fault: Fault | readonly Fault[], arrival: string): RunModule['run'] {
  return async (start) => {
    const party = await start()
    party.provider.fault(fault)
    await logIn(party)
    const count = counter(party)
    const page = await party.browser.post('/auth/logout', { return_to: '/maybe' })
    assert.deepEqual(
      [page.status, page.url],
      [200, BASE_URL + arrival],
      `the browser arrives at ${page.url}, with status ${page.status}`
    )
    assert.equal(count('end_session'), 1, 'the end-session endpoint is called once')
    const { query } = party.provider.requests.find(({ endpoint }) => endpoint === 'end_session') ?? assert.fail()
    assert.equal(query['id_token_hint'], party.issued[0]?.['id_token'], 'id_token_hint is the ID token')
    assert.equal(query['post_logout_redirect_uri'], LOGGED_OUT, 'post_logout_redirect_uri is as registered')
    assert.ok(query['state'] !== undefined && query['state'].length > 20, 'there is a state')
    const returned = page.history.find(({ url }) => url.split('?', 1)[0] === LOGGED_OUT) ?? assert.fail('no return')
    await checkLoggedOut(party)
    return `logged out with hint, registered return and state; the return was answered with ${returned.status} and led to ${arrival}`
  }
}
