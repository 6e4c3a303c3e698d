import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { answer, usage } from '../answer.ts'

export interface ServerOptions {
  issuer: string
  /** 32 bytes, base64. */
  key: string
  /** The address of the store for sessions. Default: sessions are in cookies. */
  store?: string
  recheckAfter?: number
  /** The URL of the plugin's entry. Default: that of this checkout. */
  plugin?: string
  /** The public key of the provider, PEM. */
  publicKey?: string
}

type Prepare = (app: FastifyInstance, options: ServerOptions) => unknown

const anonymous = { sub: '00000000-0000-0000-0000-000000000000' }

/** The handler of every route under load. It reads one claim when there is a user. */
export async function handler (request: FastifyRequest) {
  const { sub } = request.oidcClaims ?? anonymous
  return { sub }
}

/** A Fastify process that the benchmark starts, asks for its resource usage, and stops. */
export function serve (prepare: Prepare): void {
  const app = Fastify()
  answer({
    async listen (options: ServerOptions) {
      await prepare(app, options)
      await app.listen({ port: 0, host: '127.0.0.1' })
      return (app.server.address() as AddressInfo).port
    },
    usage,
    memory () {
      globalThis.gc?.()
      const { rss, heapUsed } = process.memoryUsage()
      return { rss, heapUsed }
    }
  })
}
