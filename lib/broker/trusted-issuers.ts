import { isAccessToken, looksLikeAnother, refuseToken } from '../provider/access-token.ts'
import { OidcError } from '../errors.ts'
import { createKeySet } from '../provider/key-set.ts'
import { isJson } from '../provider/transport.ts'
import { now } from '../util/time.ts'
import type { TokenIssuer } from '../provider/token-issuer.ts'
import type { SealedStore } from '../store/sealed-store.ts'
import type { Fetch } from '../../types/options.ts'
import type { BrokerSettings, TrustedIssuerSettings } from '../options/broker.ts'

const KEPT_FOR = 7 * 86_400 // seconds

/** Other instances whose tokens count here: each vouches for its own only, with its own keys (security.md V19). */
export function createTrustedIssuers (
  { trustedIssuers, audience }: BrokerSettings,
  transport: Fetch,
  vault: SealedStore
): TokenIssuer[] {
  const fetchKeys = keepInStore(transport, vault)
  return trustedIssuers.map(({ issuer, jwksUri, strictType }: TrustedIssuerSettings) => {
    const keySet = createKeySet(jwksUri, fetchKeys)
    return {
      name: issuer,
      settings: { issuer, clientId: '', clockTolerance: 0 },
      keys: keySet.known,
      async verifyAccessToken (token, { algorithms }) {
        const {
          payload,
          protectedHeader: { typ }
        } = await keySet
          .verify(token, { issuer, audience, algorithms, requiredClaims: ['sub', 'iat', 'exp', 'jti'] })
          .catch(refuseToken)
        // Those of py-oidc-auth do not say what they are.
        const isGood =
          isAccessToken(typ) || (!strictType && (typ === undefined || typ === 'JWT') && !looksLikeAnother(payload))
        if (!isGood) throw new OidcError('FST_OIDC_TOKEN', { detail: 'it does not say that it is an access token' })
        return payload
      }
    }
  })
}

/** A key set that was good stays good for whoever starts while its issuer is down. */
function keepInStore (transport: Fetch, vault: SealedStore): Fetch {
  return async (url, init) => {
    try {
      const response = await transport(url, init)
      const document: unknown =
        response.status === 200 && isJson(response) ? await response.json().catch(() => null) : null
      if (!hasKeys(document)) {
        throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail: `${url}: status ${response.status}, no key set` })
      }
      // What cannot be kept is only fetched again.
      await vault.set(['peer-keys', url], document, now() + KEPT_FOR).catch(() => {})
      return Response.json(document)
    } catch (error) {
      const kept = await vault.get(['peer-keys', url]).catch(() => null)
      if (kept === null) throw error
      return Response.json(kept.content)
    }
  }
}

function hasKeys (document: unknown): boolean {
  return Array.isArray((document as { keys?: unknown } | null)?.keys)
}
