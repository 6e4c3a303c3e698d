import { createTransport } from '../provider/transport.ts'
import { createAuthorizationCodes } from './authorization-codes.ts'
import { createBroker } from './broker.ts'
import { createNativeLogins } from './native-login.ts'
import { createTrustedIssuers } from './trusted-issuers.ts'
import type { BrokerSettings } from '../options/broker.ts'
import type { Settings } from '../options/settings.ts'
import type { Connections } from '../provider/connections.ts'
import type { Telemetry } from '../telemetry.ts'
import type { BrokerParts } from './broker.ts'
import type { NativeLoginsParts } from './native-login.ts'

export interface ComposeBrokerParts extends BrokerParts, Pick<NativeLoginsParts, 'errorResponses' | 'pages'> {
  telemetry: Telemetry
  connections: Connections
}

/** Builds the parts of the broker. Only an application that has one loads this file. */
export function composeBroker (
  settings: Settings,
  brokerSettings: BrokerSettings,
  { connections, telemetry, errorResponses, pages, ...parts }: ComposeBrokerParts
) {
  const { log, store, sealer } = parts
  const { issuer, nativeClients } = brokerSettings
  const broker = createBroker(settings, brokerSettings, parts)
  const codes = createAuthorizationCodes({ store, sealer, broker })
  return {
    broker,
    codes,
    peers: createTrustedIssuers(brokerSettings, {
      transport: createTransport(settings.transport, connections, () => 'jwks uri', telemetry.requestsTo?.()),
      store,
      log
    }),
    nativeLogins: nativeClients === undefined
      ? undefined
      : createNativeLogins({ issuer, clients: nativeClients, codes, telemetry, errorResponses, pages })
  }
}
