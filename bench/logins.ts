import { Agent } from 'node:http'
import { openBrowser } from './browser.ts'

export interface LoginOptions {
  port: number
  /** Where a login begins. Default: `/auth/login`. */
  login?: string
  count: number
  concurrency: number
}

/** Logs in `count` times, each time with a new browser. Returns the Cookie header of each browser. */
export async function logins (
  { port, login: path = '/auth/login', count, concurrency }: LoginOptions
): Promise<string[]> {
  const agent = new Agent({ keepAlive: true })
  const sessions: string[] = []
  let left = count
  const next = async () => {
    while (left-- > 0) sessions.push(await login(agent, port, path))
  }
  await Promise.all(Array.from({ length: concurrency }, next))
  agent.destroy()
  return sessions
}

async function login (agent: Agent, port: number, path: string): Promise<string> {
  const browser = openBrowser(agent, port)
  const authorize = await browser.follow(path)
  await browser.follow(callbackPath(authorize))
  return browser.cookies('/')
}

/**
 * The redirect that the provider would send. The code consists of parameters of the request (see provider.ts), so no
 * request to the authorization endpoint is needed.
 */
function callbackPath ({ origin: iss, searchParams }: URL): string {
  const {
    nonce,
    code_challenge: codeChallenge,
    state = '',
    redirect_uri: redirectUri = ''
  } = Object.fromEntries(searchParams)
  const code = Buffer.from(JSON.stringify({ nonce, codeChallenge })).toString('base64url')
  return `${new URL(redirectUri).pathname}?${new URLSearchParams({ code, state, iss })}`
}
