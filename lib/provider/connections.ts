import https from 'node:https'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { http } from '../util/node-http.ts'
import { elapsed } from '../util/time.ts'
import type { Agent, IncomingMessage, RequestOptions } from 'node:http'
import type { Duplex } from 'node:stream'

/** The connections to providers, which are kept open and used again. */
export interface Connections {
  /** Sends one request, and resolves when the head of its response is here. */
  request: (url: string, options: RequestOptions, body: string | undefined) => Promise<IncomingMessage>
  /** Closes connections that are not in use. The others close with their response. */
  close: () => void
}

/** How long an unused connection is kept, in milliseconds. undici keeps one as long. */
const MAX_IDLE = 4000

/**
 * Makes the connections of one registration. They remember TLS sessions, use NODE_EXTRA_CA_CERTS as all of Node.js
 * does, and the proxies that the environment names where Node.js itself uses them (NODE_USE_ENV_PROXY).
 *
 * A request is sent once. A provider may close a connection that is not in use, at any time; a request that is already
 * on its way may then have been handled or not. A code or a refresh token that comes twice can make the provider
 * revoke the login (RFC 6749, section 4.1.2; RFC 9700, section 4.14.2), and a POST is not to be repeated
 * (RFC 9110, section 9.2.2): Node.js and undici do not repeat it either. So closed connections are removed before a
 * request is written. At that time, it is always safe to open a new one.
 */
export function createConnections (): Connections {
  const options = { keepAlive: true, timeout: MAX_IDLE, proxyEnv: proxyEnv() }
  const agents = { 'http:': new http.Agent(options), 'https:': new https.Agent(options) }
  let isClosed = false
  for (const agent of Object.values(agents)) keepWhile(agent, () => !isClosed)

  return {
    async request (url, options, body) {
      const isSecure = url.startsWith('https:')
      const agent = agents[isSecure ? 'https:' : 'http:']
      if (hasIdle(agent)) await removeClosed(agent)
      // By the object: tools that observe or mock requests replace its functions.
      const { request } = isSecure ? https : http
      return await new Promise((resolve, reject) => {
        const sent = request(url, { ...options, agent }, resolve).on('error', reject)
        // Node.js reports a change of the protocol (RFC 9110, section 15.2.2) neither as a response nor as an error.
        sent.on('close', () => reject(new Error('the connection closed without a response'))).end(body)
      })
    },
    close () {
      isClosed = true
      for (const agent of Object.values(agents)) {
        for (const socket of idleOf(agent)) socket.destroy()
      }
    }
  }
}

/** The variables with proxies that Node.js itself uses, in versions that know `proxyEnv`, where that is switched on. */
export function proxyEnv (): object | undefined {
  const { options } = http.globalAgent as Agent & { options: { proxyEnv?: object } }
  return options.proxyEnv
}

/** Since when each kept connection is not in use. */
const idleSince = new WeakMap<Duplex, number>()

/** Notes since when a connection is idle, and keeps none after the end. */
function keepWhile (agent: Agent, mayKeep: () => boolean): void {
  const keep = agent.keepSocketAlive.bind(agent) as (socket: Duplex) => unknown
  agent.keepSocketAlive = (socket: Duplex): unknown => {
    idleSince.set(socket, elapsed())
    return mayKeep() && keep(socket)
  }
}

function idleOf (agent: Agent): Duplex[] {
  return Object.values(agent.freeSockets as Record<string, Duplex[]>).flat()
}

function hasIdle (agent: Agent): boolean {
  return Object.keys(agent.freeSockets).length > 0
}

/**
 * Removes connections that are closed or too old. Timers and events may be late: where a process was suspended, or
 * was busy, it may not know yet. After two turns of the event loop it has read what had arrived.
 */
async function removeClosed (agent: Agent): Promise<void> {
  for (const socket of idleOf(agent)) {
    if (elapsed() - (idleSince.get(socket) as number) > MAX_IDLE) socket.destroy()
  }
  await nextTurn()
  await nextTurn()
}
