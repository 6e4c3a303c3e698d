import assert from 'node:assert/strict'
import { BASE_URL } from '../support/app.ts'
import { faults } from '../../lib/testing/index.ts'
import { checkLoggedOut, counter, logIn } from './flows.ts'
import { LOGGED_OUT } from './party.ts'
import type { Fault } from '../../lib/testing/index.ts'
import type { RunModule } from './module.ts'

const plan = 'oidcc-client-rp-initiated-logout-rp-basic'
const id = 'oidcc-client-test-rp-init-logout'

/** C24-C26 */
export const logoutModules: RunModule[] = [
  { number: 'C24', id, plan, provider: 'returns the state', required: 'take the return', run: logsOut([], '/maybe') },
  { number: 'C25', id: `${id}-other-state`, plan, provider: 'returns a random state', required: 'show a page all the same', run: logsOut(faults['rp-init-logout-other-state'], '/') },
  { number: 'C26', id: `${id}-no-state`, plan, provider: 'returns no state', required: 'show a page all the same', run: logsOut(faults['rp-init-logout-no-state'], '/') }
]

/** Logs in and out; `arrival` is where the browser ends. */
function logsOut (fault: Fault | readonly Fault[], arrival: string): RunModule['run'] {
  return async (start) => {
    const party = await start()
    party.provider.fault(fault)
    await logIn(party)
    const count = counter(party)
    const page = await party.browser.post('/auth/logout', { return_to: '/maybe' })
    assert.deepEqual([page.status, page.url], [200, BASE_URL + arrival], `the browser arrives at ${page.url}, with status ${page.status}`)
    assert.equal(count('end_session'), 1, 'the end-session endpoint is asked once')
    const { query } = party.provider.requests.find(({ endpoint }) => endpoint === 'end_session') ?? assert.fail()
    assert.equal(query['id_token_hint'], party.issued[0]?.['id_token'], 'id_token_hint is the ID token')
    assert.equal(query['post_logout_redirect_uri'], LOGGED_OUT, 'post_logout_redirect_uri is the registered one')
    assert.ok(query['state'] !== undefined && query['state'].length > 20, 'there is a state')
    const returned = page.history.find(({ url }) => url.split('?', 1)[0] === LOGGED_OUT) ?? assert.fail('no return')
    await checkLoggedOut(party)
    return `logged out with hint, registered return and state; the return answered ${returned.status} and led to ${arrival}`
  }
}
