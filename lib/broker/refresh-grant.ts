import { sessionDigest } from '../http/completed.ts'
import { demand, oauthError } from '../provider/oauth-error.ts'
import { endsLogin, unlessHeldUp } from '../session/refresh-once.ts'
import { asksUserinfo } from '../session/user-claims.ts'
import { now } from '../util/time.ts'
import { splitWords } from '../util/words.ts'
import { REUSE_GRACE } from './grant-records.ts'
import { narrowScope } from './request-params.ts'
import { toIssued } from './token-response.ts'
import type { FastifyRequest } from 'fastify'
import type { SourcedClaims } from '../provider/claim-sources.ts'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { TokenSet } from '../provider/token-request.ts'
import type { OnHeldUp, Refreshes } from '../session/refresh-once.ts'
import type { UserClaims } from '../session/user-claims.ts'
import type { Entry } from '../store/sealed-store.ts'
import type { AccessTokens, IssueRequest } from './access-tokens.ts'
import type { GrantEnd } from './end-grants.ts'
import type { GrantRecord, GrantRecords } from './grant-records.ts'
import type { Issued, TokenResponse } from './token-response.ts'
import type { OidcTokens } from '../../types/claims.ts'

export interface RefreshRequest extends IssueRequest {
  clientId: string | undefined
  scope: string | undefined
}

/** New tokens for a refresh token, with a new refresh token (RFC 9700, section 4.14.2). Throws FST_OIDC_GRANT. */
export type RefreshGrant = (token: string, context: RefreshRequest) => Promise<Issued>

export interface RefreshGrantParts {
  records: GrantRecords
  accessTokens: AccessTokens
  grantEnd: GrantEnd
  providers: Providers
  refreshes: Refreshes
  userClaims: UserClaims
}

export function createRefreshGrant (parts: RefreshGrantParts): RefreshGrant {
  const { records, accessTokens, grantEnd, providers, refreshes, userClaims } = parts

  async function endAndRefuse (record: GrantRecord): Promise<never> {
    await grantEnd.end(record)
    throw oauthError('invalid_grant', 'The identity provider has ended the login.')
  }

  /** The provider of a grant. If it was removed, or another one has its name, the grant ends. */
  async function providerOf (record: GrantRecord, request: FastifyRequest): Promise<Provider> {
    const provider = await providers.find(request, record.provider)
    return provider?.id === record.issuedBy ? provider : await endAndRefuse(record)
  }

  /**
   * New tokens from the provider, if the grant has its refresh token. When the provider refuses, the grant ends. None
   * either while another process holds the refresh up and the provider's tokens are still good.
   */
  async function askProvider (provider: Provider, record: GrantRecord): Promise<TokenSet | undefined> {
    const { tokens, authTime, claims: { sub } } = record
    if (tokens === undefined) return undefined
    const refresh = async (onHeldUp?: OnHeldUp): Promise<TokenSet> => {
      return await refreshes.refresh(provider, tokens, { sub, authTime }, onHeldUp).catch(async (error: unknown) => {
        if (!endsLogin(error)) throw error
        // A token that the provider refuses need not be revoked. One that came for another login is revoked already.
        return await endAndRefuse({ ...record, tokens: undefined })
      })
    }
    return await unlessHeldUp(tokens, refresh, (rest) => {
      // The log has the reason of a failure.
      rest.then((fresh) => keep(provider, record, fresh)).catch(() => {})
    })
  }

  /** Saves the provider's new tokens in a grant that has changed since the refresh began. */
  async function saveTokens (before: GrantRecord, fresh: TokenSet): Promise<void> {
    const found = await records.find(before.id)
    // If the grant has ended in the meantime, only the old token was revoked.
    if (found === null) return grantEnd.revoke(renew(before, fresh))
    const hasNewer = found.content.tokens?.access_token !== before.tokens?.access_token
    if (!hasNewer && !(await records.replace(found, renew(found.content, fresh)))) await saveTokens(before, fresh)
  }

  /** For tokens that could not be saved with the rest of the grant. */
  function keep (provider: Provider, before: GrantRecord, fresh: TokenSet): void {
    refreshes.keep(provider, before.tokens as OidcTokens, fresh, async () => await saveTokens(before, fresh))
  }

  /** The user's current claims. A role that the provider has taken away is no longer in them. */
  async function claimsOf (
    provider: Provider,
    record: GrantRecord,
    fresh: TokenSet | undefined
  ): Promise<SourcedClaims> {
    const { claims, sources, tokens } = record
    if (fresh === undefined) return { claims, sources }
    const userinfo = asksUserinfo(provider) ? await userClaims.userinfo(provider, fresh.tokens, claims) : undefined
    return await userClaims.renew(provider, { claims, sources, idToken: tokens?.id_token }, { ...fresh, userinfo })
  }

  /** Replaces the refresh token of a grant; `null` when another request was faster. */
  async function rotate (found: Entry<GrantRecord>, context: RefreshRequest): Promise<Issued | null> {
    const { content: before } = found
    const provider = await providerOf(before, context.request)
    const fresh = await askProvider(provider, before)
    const renewed = fresh === undefined ? before : renew(before, fresh)

    const write = async (record: GrantRecord): Promise<boolean> => {
      const isSaved = await records.replace(found, record)
      if (!isSaved && fresh !== undefined) await saveTokens(before, fresh)
      return isSaved
    }
    const save = async (record: GrantRecord): Promise<boolean> => {
      return await write(record).catch((error: unknown) => {
        if (fresh !== undefined) keep(provider, before, fresh)
        throw error
      })
    }
    const issue = async (): Promise<[SourcedClaims, TokenResponse]> => {
      const known = await claimsOf(provider, renewed, fresh)
      const scope = narrowScope(renewed.scope, context.scope)
      return [known, await accessTokens.issue({ ...renewed, ...known, scope }, context)]
    }

    const [known, response] = await issue().catch(async (error: unknown) => {
      // The provider's old refresh token may be used up: the new one must be saved even when this request fails.
      await save(renewed)
      throw error
    })
    const { token, hash } = records.newRefreshToken(renewed.id)
    const previous = { hash: before.current as string, until: now() + REUSE_GRACE, next: token }
    const after = { ...renewed, sources: undefined, ...known, current: hash, previous }
    return (await save(after)) ? toIssued(after, withRefreshToken(response, token, after)) : null
  }

  async function endReused (id: string, { request }: RefreshRequest): Promise<never> {
    await grantEnd.endById(id)
    const facts = { session: sessionDigest(id) }
    request.log.warn(facts, 'a refresh token was used again: it may be stolen, and the grant has ended')
    throw oauthError('invalid_grant', 'The refresh token was used before.')
  }

  return async (token, context) => {
    const { clientId, scope } = context
    for (;;) {
      const lookup = await records.lookUp(token)
      demand(lookup.status !== 'unknown', 'invalid_grant', 'The refresh token is not known, or no longer valid.')
      if (lookup.status === 'reused') return await endReused(lookup.id, context)
      const { content: record } = lookup.found
      const isOwnClient = clientId === undefined || clientId === record.clientId
      demand(isOwnClient, 'invalid_grant', 'The refresh token is of another client.')
      // A logout that failed after some grants applies to the other grants as well.
      await grantEnd.refuseEnded(record)
      const granted = narrowScope(record.scope, scope)
      if (lookup.status === 'repeated') {
        const response = await accessTokens.issue({ ...record, scope: granted }, context)
        return toIssued(record, withRefreshToken(response, lookup.next, record))
      }
      const issued = await rotate(lookup.found, context)
      if (issued !== null) return issued
    }
  }
}

/** A grant with the provider's new tokens. */
function renew (record: GrantRecord, { tokens: { id_token: _, ...tokens } }: TokenSet): GrantRecord {
  const { tokens: before, scope } = record
  const granted = splitWords(tokens.scope ?? scope)
  return {
    ...record,
    // A scope that the provider no longer grants is no longer granted here.
    scope: splitWords(scope).filter((name) => granted.includes(name)).join(' '),
    // Without the new ID token: later ID tokens are also compared with that of the login.
    tokens: { ...before, ...tokens }
  }
}

export function withRefreshToken (response: TokenResponse, token: string, { expiresAt }: GrantRecord): TokenResponse {
  return { ...response, refresh_token: token, refresh_expires: expiresAt }
}
