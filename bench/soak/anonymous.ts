import { ORIGIN } from './application.ts'
import { pick } from './world.ts'
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
  ['/auth/logged-out', 'text/html', 302]
]

/** Sends one anonymous request after the other. */
export async function simulateAnonymous ({ ledger, processes, isOver }: World): Promise<void> {
  const host = new URL(ORIGIN).host
  while (!isOver()) {
    const [url, accept, status] = pick(REQUESTS)
    ledger.count('anonymous requests')
    try {
      const { statusCode } = await pick(processes).remote.send({ method: 'GET', url, headers: { host, accept } })
      if (statusCode !== status) ledger.wrong('unexpected answers', `GET ${url} ${statusCode}, not ${status}`)
    } catch (error) {
      ledger.wrong('requests without an answer', `GET ${url}: ${(error as Error).message}`)
    }
  }
}
