import { check, checkFilter } from '../options/check.ts'
import type { Broker } from './broker.ts'
import type { BrokerFilter, Oidc } from '../../types/fastify.ts'

/** `app.oidc.broker`: each function throws FST_OIDC_OPTION without a broker. */
export function createBrokerAdmin (broker: Broker | undefined): Oidc['broker'] {
  function required (): Broker {
    check(broker !== undefined, 'this application issues no tokens: set "broker"')
    return broker
  }

  return {
    revoke: async (filter) => await revokeGrants(required(), filter),
    rotateKeys: async () => await required().keys.rotate()
  }
}

/** Ends grants. An `undefined` value must not mean all users: throws FST_OIDC_OPTION. */
async function revokeGrants (broker: Broker, filter: BrokerFilter): Promise<number> {
  checkFilter(filter, ['sub', 'provider', 'sid', 'jti'])
  const { provider, ...names } = filter
  check(Object.keys(names).length === 1, 'tokens are found by one of "sub", "sid" and "jti"')
  const { sub, sid, jti = sid } = names
  check(provider === undefined || sub !== undefined, '"filter.provider" goes with "sub"')
  if (sub !== undefined) return await broker.endSubject(sub, provider)
  // The identifier of a token begins with that of its grant.
  return await broker.end(String(jti).split('.')[0] as string)
}
