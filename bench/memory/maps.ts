import { randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import { partsOf } from '../../lib/decorator.ts'
import oidc from '../../index.ts'
import { createOpaqueTokens } from '../../lib/guard/opaque-tokens.ts'
import { createEndedSessions, markOf } from '../../lib/session/ended-sessions.ts'
import { createKeptTokens, nothingKept } from '../../lib/session/kept-tokens.ts'
import { createRefreshes } from '../../lib/session/refresh-once.ts'
import { createReportEarly } from '../../lib/session/report-early.ts'
import { createReportUnreadable } from '../../lib/session/report-unreadable.ts'
import { newSession } from '../../lib/session/session.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { createSeen } from '../../lib/store/seen.ts'
import { createTelemetry } from '../../lib/telemetry.ts'
import { startProvider } from '../../lib/testing/index.ts'
import type { FastifyRequest } from 'fastify'
import type { OidcClaims, OidcTokens } from '../../index.ts'
import type { Provider } from '../../lib/provider/provider.ts'
import type { SharedMarks } from '../../lib/session/ended-sessions.ts'
import type { Session } from '../../lib/session/session.ts'
import type { Clock } from '../../lib/testing/index.ts'

/** A map in memory that has a bound. */
export interface Filling {
  name: string
  bound: number
  /** Adds an entry that was not there before. */
  add: () => Promise<unknown> | void
}

const HOUR = 3600
const API = 'https://api.example.com'
const now = (): number => Math.floor(Date.now() / 1000)
/** A new string of so many characters, which is not a part of another one. */
const text = (length: number): string => randomBytes(length * 3 / 4).toString('base64url')

const tokens = (): OidcTokens => ({
  access_token: text(1024),
  refresh_token: text(256),
  id_token: text(1300),
  token_type: 'bearer',
  expires_at: now() + HOUR
})

/** The claims of a user, about 600 bytes as JSON. */
const claims = (issuer: string): OidcClaims & { sub: string } => ({
  iss: issuer,
  sub: text(36),
  name: `Ada Augusta ${text(12)}`,
  email: `${text(16)}@analytical-engine.example`,
  picture: `https://people.analytical-engine.example/pictures/${text(24)}.jpg`,
  groups: Array.from({ length: 5 }, () => text(20)),
  realm_access: { roles: Array.from({ length: 4 }, () => text(20)) }
})

/**
 * All maps of the plugin that have a bound, those of one registration with everything that remembers something. The
 * provider is of the test kit. `clock` is moved where the plugin limits how fast a map can be filled.
 */
export async function openMaps (clock: Clock): Promise<{ maps: Filling[], close: () => Promise<void> }> {
  const issuing = await startProvider()
  const { app, parts } = await startApplication(issuing.issuer)
  const [provider] = parts.providers.all() as [Provider]
  const { log } = app
  const telemetry = await createTelemetry({ telemetry: false, resolveProvider: undefined })
  const session = (): Session => newSession(provider, {
    loginAt: Date.now(),
    session: { scopes: ['openid', 'profile', 'email'], sid: text(36), authTime: now() },
    claims: claims(provider.settings.issuer),
    user: null
  }, 8 * HOUR)

  const shared: SharedMarks = {
    isEnded: async () => false,
    isMarked: async () => false,
    end: async () => true,
    mark: async () => {},
    timeOf: async () => 0
  }
  const times = { maxAge: 8 * HOUR, recheckAfter: 600 }
  const ended = createEndedSessions(times, undefined)
  const rechecked = createEndedSessions(times, shared)
  const refreshes = createRefreshes({ log, telemetry, store: undefined, kept: nothingKept })
  const kept = createKeptTokens(undefined)
  const received = createKeptTokens(undefined)
  const [unreadable, early] = [createReportUnreadable('oidc'), createReportEarly()]
  const store = createMemoryStore()
  const tenants = await startTenants(issuing.issuer)

  const asked = { provider: { ...provider, introspect: async () => introspected(provider) } as Provider, count: 0 }
  const opaque = createOpaqueTokens(
    { introspection: 'default', introspectionMaxAge: 300 } as Parameters<typeof createOpaqueTokens>[0],
    { ...parts.providers, find: async () => asked.provider }
  )

  /** A limit lets 500 unknown tokens through at once, and 100 each second. */
  async function introspect (): Promise<void> {
    if (++asked.count % 400 === 0) clock.advance(4)
    await opaque.verify(text(43), {} as FastifyRequest, undefined)
  }

  const refreshing = {
    id: 'provider',
    name: 'default',
    settings: { resource: [] },
    refresh: async () => ({ tokens: tokens(), claims: undefined })
  } as unknown as Provider

  async function open (written: (session: Session) => string[]): Promise<void> {
    const header = written(session()).map((line) => line.split(';', 1)[0]).join('; ')
    for (let count = 0; count < 2; count++) { // the second time, it is kept
      if (parts.cookies.open(header) == null) throw new Error('it cannot be opened')
    }
  }

  const seen = (name: string): Filling => {
    const own = createSeen(undefined)
    return { name, bound: 100_000, add: async () => await own.claim(['used', text(43), text(22)], now() + HOUR) }
  }
  const bearer = await startBearer(issuing.issuer)

  const maps: Filling[] = [
    { name: 'answers of introspections, and tokens that were active', bound: 10_000, add: introspect },
    seen('used logins'),
    seen('used DPoP proofs'),
    seen('used logout tokens'),
    {
      name: 'marks of logouts',
      bound: 100_000,
      add: async () => await ended.mark(markOf.sid('default', text(36), text(36)), Date.now())
    },
    {
      name: 'sessions about which the store is not asked again (`recheckAfter`)',
      bound: 100_000,
      add: async () => await rechecked.isEnded(session())
    },
    {
      name: 'results of refreshes, for other requests',
      bound: 10_000,
      add: async () => {
        const { id_token: _, ...others } = tokens()
        await refreshes.refresh(refreshing, others, { sub: 'ada', authTime: undefined })
      }
    },
    {
      name: 'new tokens that the browser may not have (sessions in cookies, without a store)',
      bound: 10_000,
      add: async () => await kept.keep(provider, tokens(), { tokens: tokens(), claims: undefined })
    },
    { name: 'new tokens that the browser has', bound: 10_000, add: async () => await received.received(text(22)) },
    {
      name: 'opened session cookies',
      bound: 4096,
      add: async () => await open((own) => [parts.cookies.rewrite(undefined, own, HOUR)])
    },
    {
      name: 'opened cookies of `updateUser`',
      bound: 4096,
      add: async () => await open((own) => [
        parts.cookies.rewrite(undefined, own, HOUR),
        parts.cookies.writeUser(undefined, { ...own, user: claims('') }, HOUR).setCookie
      ])
    },
    { name: 'verified access tokens', bound: 10_000, add: bearer.add },
    { name: 'tenants of `resolveProvider`, with metadata and keys', bound: 1000, add: tenants.add },
    {
      name: 'cookies that no key opens, in the log',
      bound: 1000,
      add: () => unreadable(`oidc=${text(1200)}`, log)
    },
    { name: 'sessions from the future, in the log', bound: 1000, add: () => early(session(), log) },
    {
      name: 'cookies of the test kit, in tests only',
      bound: 1000,
      add: () => parts.ownOrigin.addTestCookie(`oidc=${text(1200)}`)
    },
    {
      name: '`memory:`, entries for an hour or more: sessions of 4 kB',
      bound: 100_000,
      add: async () => {
        await store.set(text(43), text(4000), { expiresAt: now() + 8 * HOUR, tags: [text(43), text(43), 'provider'] })
      }
    },
    {
      name: '`memory:`, shorter entries',
      bound: 100_000,
      add: async () => await store.set(text(43), text(80), { expiresAt: now() + 600 })
    }
  ]
  const close = async (): Promise<void> => {
    await Promise.all([app.close(), bearer.close(), tenants.close()])
    await issuing.close()
  }
  return { maps, close }

  function introspected ({ settings: { issuer } }: Provider) {
    return { active: true, client_id: 'web', aud: API, exp: now() + HOUR, scope: 'openid profile', ...claims(issuer) }
  }

  /** An application that has verified access tokens. */
  async function startBearer (issuer: string) {
    const app = Fastify()
    await app.register(oidc, { ...optionsFor(issuer), bearer: { audience: API, algorithms: ['EdDSA'] } })
    app.get('/', { preHandler: app.oidc.required() }, async () => 'here')
    return {
      close: async () => await app.close(),
      async add () {
        const token = issuing.accessToken({ signWith: 'EdDSA', overrides: { ...claims(issuer), aud: API } })
        for (let count = 0; count < 2; count++) {
          const { statusCode, body } = await app.inject({ url: '/', headers: { authorization: `Bearer ${token}` } })
          if (statusCode !== 200) throw new Error(body)
        }
      }
    }
  }
}

function optionsFor (issuer: string) {
  return {
    issuer,
    clientId: 'web',
    clientSecret: 'the secret of a client in a measurement',
    baseUrl: 'https://app.example.com',
    allowInsecureLoopback: true,
    session: { key: randomBytes(32).toString('base64') }
  }
}

async function startApplication (issuer: string) {
  const app = Fastify()
  await app.register(oidc, optionsFor(issuer))
  await app.ready()
  return { app, parts: partsOf(app.oidc) }
}

/** An application whose tenants all have the same provider, each with metadata and keys of its own. */
async function startTenants (issuer: string) {
  const app = Fastify()
  const { issuer: _, clientId: __, clientSecret: ___, ...shared } = optionsFor(issuer)
  await app.register(oidc, {
    ...shared, resolveProvider: async () => ({ issuer, clientId: 'web', clientSecret: text(40) })
  })
  await app.ready()
  const { providers } = partsOf(app.oidc)
  let count = 0
  return {
    close: async () => await app.close(),
    async add () {
      const found = await providers.get({} as FastifyRequest, `tenant-${++count}`)
      const { status } = await found.health()
      if (status !== 'ok') throw new Error(`a tenant is ${status}`)
    }
  }
}
