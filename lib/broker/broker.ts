import { randomBytes } from 'node:crypto'
import { decodeJwt, jwtVerify, SignJWT } from 'jose'
import { parseClaims } from '../login/claims.ts'
import { refreshClaims } from '../login/claims.ts'
import { readClaims } from '../login/claims.ts'
import { callHook } from '../http/run-hook.ts'
import { refuseToken } from '../provider/access-token.ts'
import { rolesOf } from '../provider/claims.ts'
import { isSamePerson } from '../session/refresh-once.ts'
import { revokeInBackground } from '../provider/revoke.ts'
import { now } from '../util/time.ts'
import { isUnreadable } from '../store/sealed-store.ts'
import { createGrantRecords, REUSE_GRACE } from './grant-records.ts'
import { demand, oauthError } from '../provider/oauth-error.ts'
import { narrowScope } from './request-params.ts'
import { createSigningKeys } from './signing-keys.ts'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { JWTPayload } from 'jose'
import type { OidcError } from '../errors.ts'
import type { Settings } from '../options/settings.ts'
import type { Provider, TokenSet } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { Refreshes } from '../session/refresh-once.ts'
import type { EndedSessions } from '../session/ended-sessions.ts'
import type { Revocation } from '../provider/revoke.ts'
import type { Sealer } from '../sealer.ts'
import type { Telemetry } from '../telemetry.ts'
import type { Entry, EntryName, SealedStore } from '../store/sealed-store.ts'
import type { GrantFilter, GrantRecord } from './grant-records.ts'
import type { TokenResponse } from './token-response.ts'
import type { BrokerSettings } from '../options/broker.ts'
import type { SigningKeys } from './signing-keys.ts'
import type { IdTokenClaims, OidcClaims, OidcTokens } from '../../types/claims.ts'
import type { IssueContext } from '../../types/options.ts'

/** Somebody who is to get tokens. */
export interface Subject extends Pick<
  GrantRecord,
  'claims' | 'clientId' | 'scope' | 'sid' | 'authTime' | 'acr' | 'loginAt' | 'tokens'
> {
  provider: Provider
}

export interface IssueRequest {
  grantType: string
  request: FastifyRequest
}

export interface RefreshRequest extends IssueRequest {
  clientId: string | undefined
  scope: string | undefined
}

/** Tokens, and the grant that they belong to. */
export interface Issued {
  id: string
  answer: TokenResponse
}

/** Issues this application's own tokens. Each function throws FST_OIDC_GRANT, and FST_OIDC_STORE_UNAVAILABLE. */
export interface Broker {
  readonly settings: BrokerSettings
  readonly keys: SigningKeys
  /** Tokens for somebody who has logged in. */
  issue: (subject: Subject, context: IssueRequest) => Promise<Issued>
  /** An access token alone, for somebody who has one of a provider until `expiresAt`. */
  exchange: (subject: Subject, expiresAt: number, context: IssueRequest) => Promise<TokenResponse>
  /** New tokens for a refresh token (RFC 9700, section 4.14.2). */
  refresh: (token: string, context: RefreshRequest) => Promise<TokenResponse>
  /** The claims of an access token of this broker. Throws FST_OIDC_TOKEN. */
  verify: (token: string) => Promise<JWTPayload>
  /** Whether a token that was verified has not been revoked. */
  isLive: (payload: JWTPayload) => Promise<boolean>
  /** Whom a token is of, as the provider said. */
  personOf: (payload: JWTPayload) => Promise<OidcClaims | undefined>
  /** What a token says, when it is a good access token (RFC 7662). */
  introspect: (token: string) => Promise<JWTPayload | null>
  /** Ends the grant of a token of either kind, when it is one (RFC 7009). */
  revokeToken: (token: string) => Promise<void>
  /** Ends the grant with that `sid`. */
  end: (id: string) => Promise<number>
  /** Ends the grants that were given until `at`, in milliseconds since the epoch. */
  endAll: (filter: GrantFilter, at: number) => Promise<number>
  /** Ends all that somebody was given until now, by the `sub` of the tokens, or by that of a provider. */
  endSubject: (sub: string, provider: string | undefined) => Promise<number>
}

export interface BrokerParts {
  log: FastifyBaseLogger
  vault: SealedStore
  sealer: Sealer
  providers: Providers
  registry: EndedSessions
  refreshes: Refreshes
  telemetry: Telemetry
}

export function createBroker (
  settings: Settings,
  broker: BrokerSettings,
  { log, vault, sealer, providers, registry, refreshes, telemetry }: BrokerParts
): Broker {
  const keys = createSigningKeys(broker, vault)
  const records = createGrantRecords(vault, sealer)

  // Two providers may have people with the same `sub`.
  function subjectOf (provider: string, sub: string): string {
    return settings.resolveProvider === undefined && settings.providers.size === 1 ? sub : `${provider}|${sub}`
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

  /** The claims of an access token (RFC 9068, section 2.2). */
  async function describe (record: GrantRecord, { grantType, request }: IssueRequest): Promise<JWTPayload> {
    const context: IssueContext = { grantType, clientId: record.clientId, provider: record.provider, request }
    const own = await callHook('broker.claims', async () => await broker.claims?.(record.claims, context))
    const reserved = reservedClaims(record)
    const payload = {
      ...usualClaims(record),
      roles: rolesOf(record.claims, settings.roleClaims, record.providerClientId),
      ...own,
      scope: record.scope,
      ...reserved
    }
    const added = await callHook('broker.onIssue', async () => await broker.onIssue?.(payload, context))
    return JSON.parse(JSON.stringify({ ...payload, ...added, ...reserved })) as JWTPayload
  }

  // What a hook of the application cannot change.
  function reservedClaims ({ id, subject, clientId, provider, expiresAt }: GrantRecord): Record<string, unknown> {
    return {
      iss: broker.issuer,
      aud: broker.audience,
      sub: subject,
      client_id: clientId,
      sid: id,
      jti: `${id}.${randomBytes(9).toString('base64url')}`,
      idp: provider,
      iat: now(),
      exp: Math.min(now() + broker.accessTokenTtl, expiresAt),
      nbf: undefined,
      cnf: undefined
    }
  }

  async function sign (payload: JWTPayload): Promise<string> {
    const { alg, kid, key } = await keys.current()
    return await new SignJWT(payload).setProtectedHeader({ alg, kid, typ: 'at+jwt' }).sign(key)
  }

  async function answer (payload: JWTPayload): Promise<TokenResponse> {
    const { exp, scope } = payload as JWTPayload & { exp: number, scope: string }
    return { access_token: await sign(payload), token_type: 'Bearer', expires_in: exp - now(), expires: exp, scope }
  }

  async function create (record: GrantRecord): Promise<void> {
    await records.create(record)
    // Somebody may have been logged out meanwhile: the record is there, and so whoever comes later finds it.
    await refuseEnded(record).catch(async (error: unknown) => {
      // Nobody gets its tokens.
      await end(record).catch(() => {})
      throw error
    })
  }

  async function refuseEnded (record: GrantRecord): Promise<void> {
    if (!await isOver(record)) return
    await end(record)
    throw oauthError('invalid_grant', 'The person was logged out.')
  }

  async function isOver ({ id, provider, sid, claims, loginAt, subject }: GrantRecord): Promise<boolean> {
    const session = { session: { id, provider, ...(sid !== undefined && { sid }) }, claims, loginAt }
    return await registry.isMarked(session) || await vault.max(endedName(subject)) >= loginAt
  }

  /** The provider of a grant; without it, or with another one of that name, the grant is over. */
  async function providerOf (record: GrantRecord, request: FastifyRequest): Promise<Provider> {
    const provider = await providers.find(request, record.provider)
    return provider?.id === record.issuedBy ? provider : await giveUp(record)
  }

  /**
   * What the provider gives for its refresh token, where it gave one: so it says whether the person is still
   * welcome.
   */
  async function askProvider (provider: Provider, record: GrantRecord): Promise<TokenSet | undefined> {
    const { tokens, authTime, claims: { sub } } = record
    if (tokens === undefined) return undefined
    // What the provider refused need not be revoked.
    const fresh = await refreshes
      .get(provider, tokens)
      .catch((error: OidcError) =>
        error.code === 'FST_OIDC_LOGIN_REQUIRED' ? giveUp({ ...record, tokens: undefined }) : Promise.reject(error)
      )
    return isSamePerson({ sub, authTime, idToken: tokens.id_token }, fresh) ? fresh : await giveUp(renew(record, fresh))
  }

  async function giveUp (record: GrantRecord): Promise<never> {
    await end(record)
    throw oauthError('invalid_grant', 'The identity provider has ended the login.')
  }

  /** Who the person is by now: what the provider does not say any more, such as a role, is over. */
  async function claimsOf (provider: Provider, record: GrantRecord, fresh: TokenSet | undefined): Promise<OidcClaims> {
    const claims = fresh === undefined ? undefined : await askForClaims(provider, record, fresh)
    return claims === undefined ? record.claims : await parseClaims({ settings }, claims)
  }

  async function askForClaims (
    provider: Provider,
    record: GrantRecord,
    { tokens, claims }: TokenSet
  ): Promise<IdTokenClaims | undefined> {
    if (claims !== undefined) return await readClaims({ telemetry }, provider, tokens, claims)
    const first = firstClaims(provider, record)
    return first === undefined ? undefined : await refreshClaims({ telemetry }, provider, tokens, first)
  }

  /** The next tokens of a grant; `null` when another request was first. */
  async function rotate (found: Entry<GrantRecord>, context: RefreshRequest): Promise<TokenResponse | null> {
    const { content: before } = found
    const provider = await providerOf(before, context.request)
    const fresh = await askProvider(provider, before)
    const renewed = fresh === undefined ? before : renew(before, fresh)
    const save = async (record: GrantRecord): Promise<boolean> => {
      const isSaved = await records.replace(found, record).catch((error: unknown) => {
        if (fresh !== undefined) refreshes.keep(provider, before.tokens as OidcTokens, fresh)
        throw error
      })
      // Who ended the grant meanwhile knew the provider's token from before.
      if (!isSaved && !await records.has(record.id)) revokeInBackground(log, revocationOf(renewed))
      return isSaved
    }
    const answerNow = async (): Promise<[OidcClaims, TokenResponse]> => {
      const claims = await claimsOf(provider, renewed, fresh)
      return [
        claims,
        await answer(await describe({ ...renewed, claims, scope: narrowScope(renewed.scope, context.scope) }, context))
      ]
    }
    const [claims, answered] = await answerNow().catch(async (error: unknown) => {
      // The provider's old refresh token may be worth nothing by now: who is refused for the moment must not
      // lose the new one.
      await save(renewed)
      throw error
    })
    const { token, hash } = records.newRefreshToken(renewed.id)
    const after = {
      ...renewed,
      claims,
      current: hash,
      previous: { hash: before.current as string, until: now() + REUSE_GRACE, next: token }
    }
    return (await save(after)) ? withRefreshToken(answered, token, after) : null
  }

  async function refresh (token: string, context: RefreshRequest): Promise<TokenResponse> {
    for (;;) {
      const shown = await records.lookUp(token)
      demand(shown.status !== 'unknown', 'invalid_grant', 'The refresh token is not known, or no longer good.')
      if (shown.status === 'reused') {
        await endById(shown.id)
        context.request.log.warn(
          { sid: shown.id },
          'a refresh token was used again: somebody else may have it, and the grant has ended'
        )
        throw oauthError('invalid_grant', 'The refresh token was used before.')
      }
      const { content: record } = shown.found
      demand(
        context.clientId === undefined || context.clientId === record.clientId,
        'invalid_grant',
        'The refresh token is of another client.'
      )
      // A logout that the store did not let end every grant counts nevertheless.
      await refuseEnded(record)
      const scope = narrowScope(record.scope, context.scope)
      if (shown.status === 'repeated') {
        return withRefreshToken(await answer(await describe({ ...record, scope }, context)), shown.next, record)
      }
      const next = await rotate(shown.found, context)
      if (next !== null) return next
    }
  }

  async function verify (token: string): Promise<JWTPayload> {
    const { payload } = await jwtVerify(token, await keys.verifier(), {
      issuer: broker.issuer,
      audience: broker.audience,
      typ: 'at+jwt',
      algorithms: ['ES256', 'EdDSA', 'RS256'],
      requiredClaims: ['sub', 'client_id', 'iat', 'jti', 'exp', 'sid']
    }).catch(refuseToken)
    return payload
  }

  const isLive = async ({ sid }: JWTPayload): Promise<boolean> => await records.has(sid as string)
  const verified = async (token: string): Promise<JWTPayload | null> =>
    await verify(token).catch((error: OidcError) => (error.code === 'FST_OIDC_TOKEN' ? null : Promise.reject(error)))

  /** Ends a grant; the provider's refresh token is of no use to anybody then. */
  async function end (record: GrantRecord): Promise<number> {
    if (!await records.remove(record.id)) return 0
    revokeInBackground(log, revocationOf(record))
    return 1
  }

  function revocationOf ({ issuedBy, tokens }: GrantRecord): Revocation[] {
    const provider = providers.all().find(({ id }) => id === issuedBy)
    return provider !== undefined && tokens?.refresh_token !== undefined
      ? [{ provider, token: tokens.refresh_token, hint: 'refresh_token' }]
      : []
  }

  async function endById (id: string): Promise<number> {
    // One that no key opens any more ends as well.
    const found = await records.find(id).catch((error: OidcError) => isUnreadable(error) ? null : Promise.reject(error))
    return found === null ? Number(await records.remove(id)) : await end(found.content)
  }

  async function endAll (filter: GrantFilter, at: number): Promise<number> {
    const revocations: Revocation[] = []
    let count = 0
    try {
      for await (const record of records.list(filter)) {
        const isMeant = record.loginAt <= at || filter.sid !== undefined
        if (!isMeant || !await records.remove(record.id)) continue
        count += 1
        revocations.push(...revocationOf(record))
      }
    } finally {
      revokeInBackground(log, revocations) // also when the store fails on the way: nobody finds these grants again
    }
    return count
  }

  return {
    settings: broker,
    keys,

    async issue (subject, context) {
      // Without a refresh token of the provider nobody says when the person is no longer welcome.
      const lasts =
        subject.tokens?.refresh_token === undefined
          ? Math.min(broker.refreshTokenTtl, settings.session.maxAge)
          : broker.refreshTokenTtl
      const record = newRecord(subject, now() + lasts)
      const answered = await answer(await describe(record, context))
      const { token, hash } = records.newRefreshToken(record.id)
      await create({ ...record, current: hash })
      return { id: record.id, answer: withRefreshToken(answered, token, record) }
    },

    async exchange (subject, expiresAt, context) {
      const record = newRecord(subject, Math.min(expiresAt, now() + broker.accessTokenTtl))
      const answered = await answer(await describe(record, context))
      await create(record)
      return answered
    },

    refresh,
    verify,
    isLive,

    async personOf ({ iss, sid }) {
      return iss === broker.issuer ? (await records.find(sid as string))?.content.claims : undefined
    },

    async introspect (token) {
      const payload = await verified(token)
      return payload !== null && await isLive(payload) ? payload : null
    },

    async revokeToken (token) {
      const payload = await verified(token)
      if (payload !== null) {
        await endById(payload['sid'] as string)
        return
      }
      const shown = await records.lookUp(token)
      if (shown.status !== 'unknown') await endById(shown.status === 'reused' ? shown.id : shown.found.content.id)
    },

    end: endById,
    endAll,

    async endSubject (sub, provider) {
      const subject = provider === undefined ? sub : subjectOf(provider, sub)
      const at = Date.now()
      await vault.raise(endedName(subject), at, now() + Math.max(broker.refreshTokenTtl, settings.session.maxAge) + 60)
      // Grants from before there were several providers have another subject.
      return await endAll(provider === undefined ? { subject } : { provider, sub }, at)
    }
  }
}

function endedName (subject: string): EntryName {
  return ['ended', 'grants', subject]
}

/** What a new access token of the provider changes. */
function renew (record: GrantRecord, { tokens: { id_token: _, ...tokens } }: TokenSet): GrantRecord {
  const { tokens: before, scope } = record
  const granted = tokens.scope?.split(' ')
  return {
    ...record,
    // What the provider does not grant any more is not granted here. The next ID token is compared with the
    // first as well.
    scope: granted === undefined ? scope : scope.split(' ').filter((name) => granted.includes(name)).join(' '),
    tokens: { ...before, ...tokens }
  }
}

/** What the ID token of the login said, where UserInfo says the rest anew. */
function firstClaims ({ settings: { userinfo } }: Provider, { tokens }: GrantRecord): IdTokenClaims | undefined {
  return userinfo && tokens?.id_token !== undefined ? decodeJwt<IdTokenClaims>(tokens.id_token) : undefined
}

/** As far as the scope goes (OpenID Connect Core 1.0, section 5.4). */
function usualClaims ({ claims, scope, authTime, acr }: GrantRecord): JWTPayload {
  const { preferred_username: username, email } = claims as { preferred_username?: unknown, email?: unknown }
  const has = (name: string): boolean => scope.split(' ').includes(name)
  return {
    ...(typeof username === 'string' && has('profile') && { preferred_username: username }),
    ...(typeof email === 'string' && has('email') && { email }),
    ...(authTime !== undefined && { auth_time: authTime }),
    ...(acr !== undefined && { acr })
  }
}

function withRefreshToken (answer: TokenResponse, token: string, { expiresAt }: GrantRecord): TokenResponse {
  return { ...answer, refresh_token: token, refresh_expires: expiresAt }
}
