import Fastify from 'fastify'
import { randomBytes, randomUUID } from 'node:crypto'
import oidc from '../../index.ts'
import { partsOf } from '../../lib/decorator.ts'
import { newSession } from '../../lib/session/session.ts'
import { answer } from '../answer.ts'
import type { SessionRecords } from '../../lib/session/session-records.ts'
import type { ServerOptions } from './serve.ts'

/** Fills a memory store with sessions and returns how many bytes they need. */

const now = Math.floor(Date.now() / 1000)
const text = (bytes: number): string => randomBytes(bytes * 3 / 4).toString('base64url')

function inUse (): number {
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

answer({
  async fill ({ issuer, key, count }: ServerOptions & { count: number }) {
    const app = Fastify()
    await app.register(oidc, {
      issuer,
      clientId: 'bench',
      clientSecret: 'a secret of the benchmark',
      baseUrl: 'https://app.example.com',
      store: 'memory:',
      session: { key, store: true },
      allowInsecureLoopback: true
    })
    await app.ready()
    const { providers, records } = partsOf(app.oidc)
    const [provider] = providers.all()
    const before = inUse()
    for (let at = 0; at < count; at += 1) {
      const session = newSession(
        provider as NonNullable<typeof provider>,
        {
          loginAt: Date.now(),
          session: { scopes: ['openid', 'profile', 'email'], sid: randomUUID(), authTime: now },
          claims: { iss: issuer, sub: randomUUID() },
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
    return inUse() - before
  }
})
