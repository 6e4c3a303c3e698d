import { check, checkKeys, text } from '../options/check.ts'
import type { Core } from '../compose.ts'
import type { Broker } from './broker.ts'
import type { BrokerFilter } from '../../types/fastify.ts'

/** Throws FST_OIDC_OPTION where there is none. */
export function brokerOf ({ broker }: Core): Broker {
  check(broker !== undefined, 'there are no tokens of this application: set "broker"')
  return broker
}

/** Ends grants; what is undefined by mistake must not mean everybody. Throws FST_OIDC_OPTION. */
export async function revokeGrants (broker: Broker, filter: BrokerFilter): Promise<number> {
  checkKeys(filter, ['sub', 'provider', 'sid', 'jti'], 'filter.')
  for (const [key, value] of Object.entries(filter)) text(value, `filter.${key}`)
  const { provider, ...names } = filter
  check(Object.keys(names).length === 1, 'tokens are found by one of "sub", "sid" and "jti"')
  const { sub, sid, jti = sid } = names
  check(provider === undefined || sub !== undefined, '"filter.provider" goes with "sub"')
  // The identifier of a token begins with that of its grant.
  return sub !== undefined
    ? await broker.endSubject(sub, provider)
    : await broker.end(String(jti).split('.')[0] as string)
}
