import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { decodeJwt } from 'jose'
import { PROGRAM } from './application.ts'
import { callApi, subOf } from './api.ts'
import { attempt, isExcusedLogin } from './member.ts'
import { pick } from './pick.ts'
import { newMember } from './users.ts'
import { HOST, PROGRAM_REDIRECT_URI, describe, openBrowser } from './world.ts'
import type { Page } from '../../lib/testing/index.ts'
import type { Answer } from './remote.ts'
import type { World } from './world.ts'

/** Programs that log in at the broker, use and refresh its tokens, and attackers who replay them. */

interface Tokens {
  access_token: string
  refresh_token: string
}

/** A program whose user has logged in. */
interface Program {
  world: World
  sub: string
  tokens: Tokens
  /** When the login began, in milliseconds since the epoch. */
  since: number
}

const FORM = { host: HOST, 'content-type': 'application/x-www-form-urlencoded' }
const TRIES = 30
const PAUSE = 500 // milliseconds

type Scenario = (program: Program) => Promise<void>

const SCENARIOS: Scenario[] = [refreshOften, refreshAtOnce, replay, revoke]

/** Runs one program after the other. */
export async function simulatePrograms (world: World): Promise<void> {
  while (!world.isOver()) {
    const program = await logIn(world)
    if (program !== undefined && await use(program)) await pick(SCENARIOS)(program)
  }
}

async function refreshOften (program: Program): Promise<void> {
  for (let times = 0; times < 4 && !program.world.isOver(); times++) {
    if (!await refresh(program) || !await use(program)) return
  }
}

/** Several requests with one refresh token get the same new one. */
async function refreshAtOnce (program: Program): Promise<void> {
  const { world: { ledger, timeline }, tokens, since } = program
  const answers = await Promise.all([1, 2, 3].map(async () => await requestTokens(program.world, refreshForm(tokens))))
  const next = new Set(answers.flatMap((answer) => answer?.statusCode === 200 ? [tokensIn(answer).refresh_token] : []))
  if (!timeline.excuses(since, 'connection', 'clock', 'store')) {
    ledger.check('refresh tokens used twice', next.size <= 1, () => `${next.size} new ones, ${timeline.describe()}`)
  }
  for (const answer of answers) accept(program, answer)
  await use(program)
}

/** A refresh token that was used before ends the grant. */
async function replay (program: Program): Promise<void> {
  const { world: { ledger }, tokens: first } = program
  if (!await refresh(program) || !await refresh(program)) return
  const answer = await requestTokens(program.world, refreshForm(first))
  if (answer === undefined) return
  const isRefused = answer.statusCode !== 200
  ledger.check('refresh tokens used twice', isRefused, () => `a replay, ${program.world.timeline.describe()}`)
  if (answer.statusCode === 400) await checkEnded(program)
}

async function revoke (program: Program): Promise<void> {
  const { world, tokens } = program
  const answer = await post(world, 'revoke', { token: pick([tokens.access_token, tokens.refresh_token]) })
  if (answer?.statusCode === 200) await checkEnded(program)
}

/** The tokens of a grant that has ended are good in no process. */
async function checkEnded ({ world, tokens }: Program): Promise<void> {
  const { ledger, timeline, entrances } = world
  const headers = { host: HOST, authorization: `Bearer ${tokens.access_token}` }
  const answers = await Promise.all(entrances.flatMap(({ processes }) => processes.map(
    async ({ send }) => await send({ method: 'GET', url: '/api', headers }).catch(() => undefined)
  )))
  const refreshed = await requestTokens(world, refreshForm(tokens))
  for (const answer of [...answers, refreshed]) {
    if (answer === undefined) ledger.count('checks that a kill has prevented')
    else ledger.check('grants after their end', answer.statusCode !== 200, () => timeline.describe())
  }
}

async function logIn (world: World): Promise<Program | undefined> {
  const { since, entrance } = newMember(world)
  const [verifier, state] = [randomBytes(32).toString('base64url'), randomBytes(12).toString('base64url')]
  const query = new URLSearchParams({
    client_id: PROGRAM,
    redirect_uri: PROGRAM_REDIRECT_URI,
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
    state
  })
  const browser = openBrowser(entrance)
  const page = await attempt(world, async () =>
    await browser.goto(`/auth/login?${query.toString()}`, { until: ({ href }) => href.startsWith(PROGRAM_REDIRECT_URI) }))
  const response = new URL(page?.location ?? PROGRAM_REDIRECT_URI).searchParams
  const code = response.get('code')
  if (page === undefined || code === null) {
    notLoggedIn(world, page, response, since)
    return undefined
  }
  world.ledger.check('unexpected answers', response.get('state') === state, () => `state ${String(response.get('state'))}`)
  const form = { grant_type: 'authorization_code', code, redirect_uri: PROGRAM_REDIRECT_URI, code_verifier: verifier }
  const answer = await requestTokens(world, form)
  if (answer?.statusCode !== 200) {
    notExchanged(world, answer, since)
    return undefined
  }
  world.ledger.check('lost logins', true, String)
  world.ledger.count('logins of programs')
  const tokens = tokensIn(answer)
  // No other program has this user.
  return { world, sub: decodeJwt(tokens.access_token).sub as string, tokens, since }
}

function notLoggedIn (world: World, page: Page | undefined, response: URLSearchParams, since: number): void {
  const { ledger, timeline } = world
  const isUnavailable = response.get('error') === 'temporarily_unavailable'
  if (isUnavailable && timeline.excuses(since, 'login', 'store', 'skew')) {
    ledger.count('logins refused while the provider or store failed')
    return
  }
  if (isExcusedLogin(world, page, since)) return
  const what = `${describe(page as Page)} ${response.toString()}`
  ledger.check('lost logins', false, () => `program: ${what}, ${timeline.describe()}`)
}

function notExchanged ({ ledger, timeline }: World, answer: Answer | undefined, since: number): void {
  // A code may be used up when the fault began in the middle of the request (docs/broker.md).
  if (answer === undefined || timeline.excuses(since, 'connection', 'store', 'clock')) return
  const what = `${answer.statusCode} ${answer.rawPayload.toString().slice(0, 150)}`
  ledger.check('lost logins', false, () => `program: ${what}, ${timeline.describe()}`)
}

/** Calls the API. Returns whether the token is good. */
async function use ({ world, tokens, sub, since }: Program): Promise<boolean> {
  const { ledger, timeline } = world
  const from = Date.now()
  const answer = await callApi(world, tokens.access_token)
  if (answer instanceof Error) return false
  if (answer.statusCode === 200) {
    ledger.check('good tokens refused', true, String)
    return ledger.check('users with the session of another user', subOf(answer) === sub, () => `program of ${sub}`)
  }
  const isExcused = timeline.excuses(since, 'clock') || (answer.statusCode === 503 && timeline.excuses(from, 'store'))
  const what = (): string =>
    `${answer.statusCode} ${answer.rawPayload.toString().slice(0, 150)}, ${timeline.describe()}`
  return isExcused ? answer.statusCode === 503 : ledger.check('good tokens refused', false, what)
}

/** Gets new tokens. Returns whether there are some. */
async function refresh (program: Program): Promise<boolean> {
  const { world: { ledger, timeline }, tokens, since } = program
  const answer = await requestTokens(program.world, refreshForm(tokens))
  if (answer?.statusCode === 200) {
    ledger.count('refreshes of programs')
    ledger.check('good tokens refused', true, String)
    accept(program, answer)
    return true
  }
  // A process that dies in the middle of a refresh loses the new token of the provider (docs/stores.md).
  const isExcused = answer === undefined || answer.statusCode === 503 || timeline.excuses(since, 'connection', 'clock')
  if (!isExcused) {
    const what = `refresh ${answer.statusCode} ${answer.rawPayload.toString().slice(0, 150)}`
    ledger.check('good tokens refused', false, () => `${what}, ${timeline.describe()}`)
  }
  return false
}

function accept (program: Program, answer: Answer | undefined): void {
  if (answer?.statusCode === 200) program.tokens = tokensIn(answer)
}

function refreshForm ({ refresh_token }: Tokens): Record<string, string> {
  return { grant_type: 'refresh_token', refresh_token }
}

function tokensIn ({ rawPayload }: Answer): Tokens {
  return JSON.parse(rawPayload.toString()) as Tokens
}

/** Asks the token endpoint. After a 503, the same request again (docs/broker.md). */
async function requestTokens (world: World, form: Record<string, string>): Promise<Answer | undefined> {
  for (let tries = 1; ; tries++) {
    const answer = await post(world, 'token', { client_id: PROGRAM, ...form })
    if (answer?.statusCode !== 503 || tries === TRIES || world.isOver()) return answer
    world.ledger.count('requests of programs repeated after a 503')
    await sleep(PAUSE)
  }
}

async function post (world: World, route: string, form: Record<string, string>): Promise<Answer | undefined> {
  const payload = new URLSearchParams(form).toString()
  const sent = { method: 'POST', url: `/auth/${route}`, headers: FORM, payload }
  const answer = await pick(world.entrances).send(sent).catch((error: Error) => error)
  const isAnswered = !(answer instanceof Error)
  world.ledger.check('requests without an answer', isAnswered, () => `${route}: ${(answer as Error).message}`)
  return isAnswered ? answer : undefined
}
