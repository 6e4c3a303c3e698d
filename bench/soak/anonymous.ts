import { pick } from './pick.ts'
import { HOST, codeIn, isExplained } from './world.ts'
import type { World } from './world.ts'

/** Anonymous requests, and the expected status of each. */
const REQUESTS: Array<[url: string, accept: string, status: number]> = [
  ['/', '*/*', 200],
  ['/maybe', '*/*', 200],
  ['/me', 'application/json', 401],
  ['/me', 'text/html', 302],
  ['/token', 'application/json', 401],
  ['/auth/session', '*/*', 401],
  ['/auth/userinfo', '*/*', 401],
  ['/auth/login', 'text/html', 302],
  ['/tenants/auth/red/login', 'text/html', 302],
  ['/tenants/t/blue/me', 'application/json', 401],
  ['/auth/logged-out', 'text/html', 302]
]

/** Sends one anonymous request after the other. */
export async function simulateAnonymous ({ ledger, timeline, entrances, isOver }: World): Promise<void> {
  while (!isOver()) {
    const [url, accept, status] = pick(REQUESTS)
    const from = Date.now()
    ledger.count('anonymous requests')
    const answer = await pick(entrances).send({ method: 'GET', url, headers: { host: HOST, accept } })
      .catch((error: Error) => error)
    const isAnswered = !(answer instanceof Error)
    ledger.check('requests without an answer', isAnswered, () => `GET ${url}: ${(answer as Error).message}`)
    if (!isAnswered) continue
    const { statusCode, rawPayload } = answer
    const isRight = statusCode === status || isExplained(timeline, statusCode, codeIn(rawPayload.toString()), from)
    ledger.check('unexpected answers', isRight, () => `GET ${url} ${statusCode}, not ${status}`)
  }
}
