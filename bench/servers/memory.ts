import Fastify, { type FastifyInstance } from 'fastify'
import { randomBytes, randomUUID } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import oidc from '../../index.ts'
import { partsOf } from '../../lib/decorator.ts'
import { newSession } from '../../lib/session/session.ts'
import { sessionCookie } from '../../lib/testing/index.ts'
import { answer } from '../answer.ts'
import { handler, type ServerOptions } from './serve.ts'
import type { SessionRecords } from '../../lib/session/session-records.ts'
import type { OidcOptions } from '../../index.ts'

/** Fills what a process keeps in memory. Each command returns how many bytes its work has added. */

const now = Math.floor(Date.now() / 1000)
const text = (characters: number): string => randomBytes(characters * 3 / 4).toString('base64url')

/** What a request has left behind takes several turns to go. */
async function inUse (): Promise<number> {
  for (let turn = 0; turn < 5; turn += 1) {
    globalThis.gc?.()
    await nextTurn()
  }
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

async function build ({ issuer, key }: ServerOptions, options: Partial<OidcOptions>): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(oidc, {
    issuer,
    clientId: 'bench',
    clientSecret: 'a secret of the benchmark',
    baseUrl: 'https://app.example.com',
    session: { key },
    allowInsecureLoopback: true,
    ...options
  })
  app.get('/me', { preHandler: app.oidc.required() }, handler)
  await app.ready()
  return app
}

/** Only what comes a second time is kept. */
async function sendTwice (app: FastifyInstance, headers: Record<string, string>): Promise<void> {
  for (let time = 0; time < 2; time += 1) {
    const { statusCode } = await app.inject({ url: '/me', headers })
    if (statusCode !== 200) throw new Error(`GET /me answered ${statusCode}`)
  }
}

async function added (app: FastifyInstance, work: () => Promise<unknown>): Promise<number> {
  await app.inject('/me')
  const before = await inUse()
  await work()
  return await inUse() - before
}

answer({
  async sessions (options: ServerOptions & { count: number }) {
    const app = await build(options, { store: 'memory:', session: { key: options.key, store: true } })
    const { providers, records } = partsOf(app.oidc)
    const [provider] = providers.all()
    return await added(app, async () => {
      for (let at = 0; at < options.count; at += 1) {
        const session = newSession(
          provider as NonNullable<typeof provider>,
          {
            loginAt: Date.now(),
            session: { scopes: ['openid', 'profile', 'email'], sid: randomUUID(), authTime: now },
            claims: { iss: options.issuer, sub: randomUUID() },
            user: null
          },
          28_800
        )
        await (records as SessionRecords).create(session, {
          access_token: text(1024),
          refresh_token: text(256),
          id_token: text(1300),
          token_type: 'bearer',
          expires_at: now + 3600
        })
      }
    })
  },

  async tokens (options: ServerOptions & { tokens: string[] }) {
    const app = await build(options, { bearer: { audience: 'https://api.example.com' } })
    return await added(app, async () => {
      for (const token of options.tokens) await sendTwice(app, { authorization: `Bearer ${token}` })
    })
  },

  async cookies (options: ServerOptions & { count: number, claims: Record<string, unknown> }) {
    const app = await build(options, {})
    const header = (): string => sessionCookie(app, { claims: { ...options.claims, sub: randomUUID() } })
    return {
      characters: header().length,
      bytes: await added(app, async () => {
        for (let at = 0; at < options.count; at += 1) await sendTwice(app, { cookie: header() })
      })
    }
  }
})
