import { randomBytes } from 'node:crypto'
import { now } from '../util/time.ts'
import { createAccessTokens } from './access-tokens.ts'
import { createGrantEnd } from './end-grants.ts'
import { createGrantRecords } from './grant-records.ts'
import { createRefreshGrant, withRefreshToken } from './refresh-grant.ts'
import { createSigningKeys } from './signing-keys.ts'
import { toIssued } from './token-response.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { JWTPayload } from 'jose'
import type { OidcError } from '../errors.ts'
import type { BrokerSettings } from '../options/broker.ts'
import type { Settings } from '../options/settings.ts'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { TokenIssuer } from '../provider/token-issuer.ts'
import type { Sealer } from '../sealer.ts'
import type { EndedSessions } from '../session/ended-sessions.ts'
import type { Refreshes } from '../session/refresh-once.ts'
import type { UserClaims } from '../session/user-claims.ts'
import type { SealedStore } from '../store/sealed-store.ts'
import type { AccessTokens, IssueRequest } from './access-tokens.ts'
import type { GrantEnd } from './end-grants.ts'
import type { GrantRecord } from './grant-records.ts'
import type { RefreshGrant } from './refresh-grant.ts'
import type { SigningKeys } from './signing-keys.ts'
import type { Issued } from './token-response.ts'
import type { OidcClaims } from '../../types/claims.ts'

/** The user that tokens are issued for, and the login that allows it. */
export interface Subject extends Pick<
  GrantRecord,
  'claims' | 'sources' | 'clientId' | 'scope' | 'sid' | 'authTime' | 'acr' | 'loginAt' | 'tokens'
> {
  provider: Provider
}

/** Issues this application's own tokens. Each function throws FST_OIDC_GRANT, and FST_OIDC_STORE_UNAVAILABLE. */
export interface Broker {
  readonly settings: BrokerSettings
  readonly keys: SigningKeys
  /** The issuer of its access tokens, for the guards. */
  readonly tokenIssuer: TokenIssuer
  /** Tokens for a user who has logged in. */
  issue: (subject: Subject, context: IssueRequest) => Promise<Issued>
  /** An access token in exchange for a provider's token that is valid until `expiresAt`. */
  exchange: (subject: Subject, expiresAt: number, context: IssueRequest) => Promise<Issued>
  refresh: RefreshGrant
  /** The claims of an access token of this broker. Throws FST_OIDC_TOKEN. */
  verify: AccessTokens['verify']
  /** The user of a token, as the provider named them; `undefined` for a token of another issuer. */
  userOf: (payload: JWTPayload) => Promise<OidcClaims | undefined>
  /** The claims of a valid access token. `null` for any other text (RFC 7662). */
  introspect: (token: string) => Promise<JWTPayload | null>
  /** Ends the grant of an access token or refresh token (RFC 7009). */
  revokeToken: (token: string) => Promise<void>
  /** Ends the grant with that `sid`. */
  end: GrantEnd['endById']
  /** Ends the grants that match and did not begin after `at`, in milliseconds since the epoch. */
  endAll: GrantEnd['endAll']
  /** Ends all grants of a user. `sub` is that of the tokens or, with `provider`, that of the provider. */
  endSubject: (sub: string, provider: string | undefined) => Promise<number>
}

export interface BrokerParts {
  log: FastifyBaseLogger
  store: SealedStore
  sealer: Sealer
  providers: Providers
  endedSessions: EndedSessions
  refreshes: Refreshes
  userClaims: UserClaims
}

export function createBroker (settings: Settings, broker: BrokerSettings, parts: BrokerParts): Broker {
  const { store, sealer } = parts
  const maxLifetime = Math.max(broker.refreshTokenTtl, settings.session.maxAge)
  const keys = createSigningKeys(broker, store)
  const records = createGrantRecords(store, sealer)
  const accessTokens = createAccessTokens({ settings: broker, roleClaims: settings.roleClaims, keys })
  const grantEnd = createGrantEnd({ ...parts, records, maxLifetime })
  const refresh = createRefreshGrant({ ...parts, records, accessTokens, grantEnd })

  // Two providers may have users with the same `sub`.
  function subjectOf (provider: string, sub: string): string {
    const isOnlyProvider = settings.resolveProvider === undefined && settings.providers.size === 1
    return isOnlyProvider ? sub : `${provider}|${sub}`
  }

  function newRecord ({ provider, tokens, ...subject }: Subject, expiresAt: number): GrantRecord {
    const { name, id: issuedBy, settings: { clientId: providerClientId } } = provider
    return {
      ...subject,
      ...(tokens?.refresh_token !== undefined && { tokens }),
      id: randomBytes(16).toString('base64url'),
      subject: subjectOf(name, subject.claims.sub),
      provider: name,
      issuedBy,
      providerClientId,
      expiresAt
    }
  }

  // Writes the record before it looks for logouts: a logout that comes later finds the record.
  async function create (record: GrantRecord): Promise<void> {
    await records.create(record)
    await grantEnd.refuseEnded(record).catch(async (error: unknown) => {
      // The client does not get the tokens.
      await grantEnd.end(record).catch(() => {})
      throw error
    })
  }

  async function isLive ({ sid }: JWTPayload): Promise<boolean> {
    return await records.has(sid as string)
  }

  async function claimsOf (token: string): Promise<JWTPayload | null> {
    return await accessTokens.verify(token).catch((error: OidcError) => {
      if (error.code !== 'FST_OIDC_TOKEN') throw error
      return null
    })
  }

  return {
    settings: broker,
    keys,
    tokenIssuer: {
      name: 'broker',
      settings: { issuer: broker.issuer, clientId: '', clockTolerance: 0 },
      keys: keys.known,
      verifyAccessToken: accessTokens.verify,
      isLive,
      onlyUsers: true,
      providerOf: ({ idp }) => idp as string
    },

    async issue (subject, context) {
      // Without a refresh token of the provider, the broker cannot learn that the provider has ended the login.
      const canAskProvider = subject.tokens?.refresh_token !== undefined
      const lifetime = canAskProvider
        ? broker.refreshTokenTtl
        : Math.min(broker.refreshTokenTtl, settings.session.maxAge)
      const record = newRecord(subject, now() + lifetime)
      const response = await accessTokens.issue(record, context)
      const { token, hash } = records.newRefreshToken(record.id)
      await create({ ...record, current: hash })
      return toIssued(record, withRefreshToken(response, token, record))
    },

    async exchange (subject, expiresAt, context) {
      const record = newRecord(subject, Math.min(expiresAt, now() + broker.accessTokenTtl))
      const response = await accessTokens.issue(record, context)
      await create(record)
      return toIssued(record, response)
    },

    refresh,
    verify: accessTokens.verify,

    async userOf ({ iss, sid }) {
      return iss === broker.issuer ? (await records.find(sid as string))?.content.claims : undefined
    },

    async introspect (token) {
      const payload = await claimsOf(token)
      return payload !== null && (await isLive(payload)) ? payload : null
    },

    async revokeToken (token) {
      const payload = await claimsOf(token)
      if (payload !== null) {
        await grantEnd.endById(payload['sid'] as string)
        return
      }
      const lookup = await records.lookUp(token)
      if (lookup.status === 'unknown') return
      await grantEnd.endById(lookup.status === 'reused' ? lookup.id : lookup.found.content.id)
    },

    end: grantEnd.endById,
    endAll: grantEnd.endAll,

    async endSubject (sub, provider) {
      const subject = provider === undefined ? sub : subjectOf(provider, sub)
      // A grant that began when there was one provider has another subject.
      return await grantEnd.endSubject(subject, provider === undefined ? { subject } : { provider, sub })
    }
  }
}
