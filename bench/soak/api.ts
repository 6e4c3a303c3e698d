import { setTimeout as sleep } from 'node:timers/promises'
import { API } from './application.ts'
import { pick } from './pick.ts'
import { HOST } from './world.ts'
import type { Answer } from './remote.ts'
import type { MintCommand } from './provider.ts'
import type { World } from './world.ts'

/** Clients that call the API with access tokens of the provider, and attackers who forge such tokens. */

const USES = 8
/** How long after its making a token is used, in milliseconds: until then its key is surely published. */
const USED_FOR = 5000
const TRIES = 5
const PAUSE = 1000 // milliseconds

let clients = 0

export async function simulateApiClients (world: World): Promise<void> {
  while (!world.isOver()) {
    await useToken(world)
    await tryForged(world)
  }
}

/** Calls the API with a bearer token. The error of a connection that was lost for good is an answer too. */
export async function callApi ({ entrances }: World, token: string, url = '/api'): Promise<Answer | Error> {
  const sent = { method: 'GET', url, headers: { host: HOST, authorization: `Bearer ${token}` } }
  return await pick(entrances).send(sent).catch((error: Error) => error)
}

/** The `sub` of an answer. */
export function subOf (answer: Answer): unknown {
  return answer.statusCode === 200 ? JSON.parse(answer.rawPayload.toString()).sub : undefined
}

async function useToken (world: World): Promise<void> {
  clients += 1
  const sub = `client-${clients}`
  const from = Date.now()
  const token = await world.provider.ask<string>('mint', { options: { sub } } satisfies MintCommand)
  for (let uses = 0; uses < USES && Date.now() - from < USED_FOR && !world.isOver(); uses++) {
    if (!await isAccepted(world, token, sub, from)) return
  }
}

/** Calls the API until it answers: when it says that it must ask the provider first, again after a pause. */
async function isAccepted (world: World, token: string, sub: string, since: number): Promise<boolean> {
  const { ledger, timeline } = world
  for (let tries = 1; tries <= TRIES; tries++) {
    const answer = await callApi(world, token)
    const isAnswered = !(answer instanceof Error)
    ledger.check('requests without an answer', isAnswered, () => `/api: ${(answer as Error).message}`)
    if (!isAnswered) return false
    if (answer.statusCode === 200) {
      ledger.check('good tokens refused', true, String)
      return ledger.check('users with the session of another user', subOf(answer) === sub, () => `token of ${sub}`)
    }
    const isExcused = timeline.excuses(since, 'clock', 'token') || Date.now() - since > USED_FOR
    if (isExcused) return false
    if (answer.statusCode !== 503 || tries === TRIES) {
      const what = `${answer.statusCode} ${answer.rawPayload.toString().slice(0, 150)}`
      return ledger.check('good tokens refused', false, () => `${what}, ${timeline.describe()}`)
    }
    ledger.count('good tokens that had to come again')
    await sleep(PAUSE)
  }
  return false
}

const seconds = (): number => Math.floor(Date.now() / 1000)

/** How tokens are forged. All of them must be refused. */
const FORGED: Array<() => MintCommand> = [
  // Beyond what the steps of clocks could excuse.
  () => ({ options: { overrides: { iat: seconds() - 4000, exp: seconds() - 400 } } }),
  () => ({ options: { overrides: { aud: 'https://other.example.com' } } }),
  () => ({ options: { overrides: { aud: [`${API}/`, 'api'] } } }),
  () => ({ options: { overrides: { iss: 'https://evil.test' } } }),
  () => ({ options: { overrides: { sub: '' } } }),
  () => ({ options: { header: { typ: 'JWT' } } }),
  () => ({ tenant: 'red', options: {} }),
  () => ({ kind: 'idToken', options: { overrides: { aud: API } } }),
  ...([
    'none', 'other-key', 'broken-signature', 'public-pem', 'public-jwk', 'client-secret', 'unknown-kid', 'embedded-jwk',
    'jku', 'x5u', 'crit'
  ] as const).map((signWith) => () => ({ options: { signWith } }))
]

async function tryForged (world: World): Promise<void> {
  const { ledger, timeline } = world
  const command = pick(FORGED)()
  const token = await world.provider.ask<string>('mint', command)
  // More than once: what was refused stays refused.
  for (let uses = 0; uses < USES / 2; uses++) {
    const answer = await callApi(world, token)
    if (answer instanceof Error) return
    ledger.count('forged tokens')
    const what = (): string => `${JSON.stringify(command)} ${answer.statusCode}, ${timeline.describe()}`
    ledger.check('forged tokens accepted', answer.statusCode !== 200, what)
    // Of a token whose key is not known, the application cannot say that it is wrong before it has asked the provider.
    ledger.check('unexpected answers', [200, 400, 401, 503].includes(answer.statusCode), what)
  }
}
