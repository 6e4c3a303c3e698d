import { PUBLISHED_BEFORE } from '../broker/signing-keys.ts'
import { publicDocument } from './public-document.ts'
import type { Broker } from '../broker/broker.ts'
import type { Endpoint } from './endpoint.ts'

/** `GET .well-known/jwks.json`: the keys that verify the broker's tokens (RFC 7517). */
export function jwksEndpoint ({ keys }: Pick<Broker, 'keys'>): Endpoint {
  // Half of the time: caches fetch a new key before it signs.
  return publicDocument(PUBLISHED_BEFORE / 2, async () => await keys.jwks(), 'application/jwk-set+json')
}
