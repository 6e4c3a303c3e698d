import { Agent } from 'node:http'
import { openBrowser } from './browser.ts'

export interface LoginOptions {
  issuer: string
  port: number
  count: number
  concurrency: number
}

/** Logs in `count` times, each time with a new browser. Returns the Cookie header of each browser. */
export async function logins ({ issuer, port, count, concurrency }: LoginOptions): Promise<string[]> {
  const agent = new Agent({ keepAlive: true })
  const sessions: string[] = []
  let left = count
  const next = async () => {
    while (left-- > 0) sessions.push(await login(agent, issuer, port))
  }
  await Promise.all(Array.from({ length: concurrency }, next))
  agent.destroy()
  return sessions
}

async function login (agent: Agent, issuer: string, port: number): Promise<string> {
  const browser = openBrowser(agent, port)
  const authorize = await browser.follow('/auth/login')
  await browser.follow(callbackPath(issuer, authorize.searchParams))
  return browser.cookies('/')
}

/**
 * The redirect that the provider would send. The code consists of parameters of the request (see provider.ts), so no
 * request to the authorization endpoint is needed.
 */
function callbackPath (iss: string, parameters: URLSearchParams): string {
  const {
    nonce,
    code_challenge: codeChallenge,
    state = '',
    redirect_uri: redirectUri = ''
  } = Object.fromEntries(parameters)
  const code = Buffer.from(JSON.stringify({ nonce, codeChallenge })).toString('base64url')
  return `${new URL(redirectUri).pathname}?${new URLSearchParams({ code, state, iss })}`
}
