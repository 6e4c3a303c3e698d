import { checkWith } from '../errors.ts'
import { isAccessToken, looksLikeOtherToken } from '../provider/access-token.ts'
import { checkUsable, createKeySet, readJwks } from '../provider/key-set.ts'
import { readKeys } from '../provider/keys.ts'
import { verifyJwt } from '../provider/verify-jwt.ts'
import { now } from '../util/time.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { Check } from '../errors.ts'
import type { BrokerSettings, TrustedIssuerSettings } from '../options/broker.ts'
import type { TokenIssuer } from '../provider/token-issuer.ts'
import type { SealedStore } from '../store/sealed-store.ts'
import type { Fetch } from '../../types/options.ts'

/** How long a key set is kept, in seconds: a key that the issuer has removed must not count longer. */
const KEPT_FOR = 86_400
const REQUIRED_CLAIMS = ['sub', 'iat', 'exp', 'jti']

export interface TrustedIssuersParts {
  transport: Fetch
  store: SealedStore
  log: FastifyBaseLogger
}

const check: Check = checkWith('FST_OIDC_TOKEN')

const REFUSAL = {
  code: 'FST_OIDC_TOKEN',
  compared: { alg: '"bearer.algorithms"', iss: '"broker.trustedIssuers"', aud: '"broker.audience"' }
} as const

/**
 * The brokers of other applications whose access tokens are accepted. Each one is trusted for its own issuer only,
 * and its tokens are verified with its own keys (RFC 8725, section 3.8).
 */
export function createTrustedIssuers (
  { trustedIssuers, audience }: BrokerSettings,
  { transport, store, log }: TrustedIssuersParts
): TokenIssuer[] {
  return trustedIssuers.map(({ issuer, jwksUri, strictType }: TrustedIssuerSettings) => {
    const kept = keepInStore(transport, store)
    const keySet = createKeySet(jwksUri, kept.fetch, log)
    return {
      name: issuer,
      settings: { issuer, clientId: '', clockTolerance: 0 },
      keys: keySet.known,
      async verifyAccessToken (token, { algorithms }) {
        const rules = { issuer, audience, algorithms, requiredClaims: REQUIRED_CLAIMS }
        const { payload, protectedHeader } = await verifyJwt(token, keySet, rules, REFUSAL)
        kept.checkAge()
        const { typ } = protectedHeader
        const isAccepted = isAccessToken(typ) || (!strictType && isUntyped(typ))
        check(isAccepted, 'it does not say that it is an access token')
        check(!looksLikeOtherToken(payload, typ), 'a claim says that it is not an access token')
        return payload
      }
    }
  })
}

// The header of py-oidc-auth's access tokens does not name their type.
function isUntyped (typ: unknown): boolean {
  return typ === undefined || typ === 'JWT'
}

interface KeptKeys {
  fetch: Fetch
  /** Throws when keys of the store are too old by now, and there are no others. */
  checkAge: () => void
}

interface KeptDocument {
  /** In seconds since the epoch. */
  fetched_at?: number
}

/**
 * Keeps the last valid key set, for an application that starts while the issuer is down. After the first fetch, a
 * failure counts: then the keys that are known are used for a limited time. What comes from the store has a part of
 * this time behind it.
 */
function keepInStore (transport: Fetch, store: SealedStore): KeptKeys {
  let isFetched = false
  let used: { until: number, error: unknown } | undefined

  return {
    async fetch (url, init) {
      try {
        const response = await transport(url, init)
        const document = await readJwks(response, `${url}: status ${response.status}`)
        checkUsable(readKeys(document.keys).usable, url)
        isFetched = true
        used = undefined
        // If the store fails, the key set is only fetched again.
        await store.set(['peer-keys', url], { ...document, fetched_at: now() }, now() + KEPT_FOR).catch(() => {})
        return Response.json(document)
      } catch (error) {
        const kept = isFetched ? null : await store.get<KeptDocument>(['peer-keys', url]).catch(() => null)
        if (kept === null) throw error
        // Version 0.1.0 kept no time.
        const { fetched_at: fetchedAt = now() } = kept.content
        used = { until: Math.min(used?.until ?? Infinity, fetchedAt + KEPT_FOR), error }
        return Response.json(kept.content)
      }
    },

    checkAge () {
      if (used !== undefined && now() >= used.until) throw used.error
    }
  }
}
