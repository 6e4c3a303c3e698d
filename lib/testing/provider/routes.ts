import { html, refusal } from './answer.ts'
import { authorize } from './authorize.ts'
import { device, deviceVerification } from './device.ts'
import { endSessionEndpoint } from './end-session.ts'
import { token } from './grants.ts'
import { introspection } from './introspection.ts'
import { attacker, jwks } from './key-set.ts'
import { metadata } from './metadata.ts'
import { par } from './pushed-request.ts'
import { revocation } from './revocation.ts'
import { userinfo } from './userinfo.ts'
import type { Answer } from './answer.ts'
import type { Exchange } from './context.ts'
import type { Endpoint } from './options.ts'

interface Route {
  methods: string[]
  handle: (exchange: Exchange) => Answer | Promise<Answer>
}

const read = ['GET', 'HEAD']
const both = ['GET', 'POST']

const routes: Record<Endpoint, Route> = {
  metadata: { methods: read, handle: metadata },
  jwks: { methods: read, handle: jwks },
  attacker: { methods: read, handle: attacker },
  authorize: { methods: both, handle: authorize },
  token: { methods: ['POST'], handle: token },
  userinfo: { methods: both, handle: userinfo },
  end_session: { methods: both, handle: endSessionEndpoint },
  revocation: { methods: ['POST'], handle: revocation },
  introspection: { methods: ['POST'], handle: introspection },
  par: { methods: ['POST'], handle: par },
  device: { methods: ['POST'], handle: device },
  device_verification: { methods: ['GET'], handle: deviceVerification }
}

/** Calls the handler of the endpoint that a request is for. */
export const dispatch = async (exchange: Exchange, duplicate: string | undefined): Promise<Answer> => {
  const { endpoint, method } = exchange.request
  if (endpoint === 'unknown') return html('<p>Not found</p>', 404)
  const { methods, handle } = routes[endpoint]
  if (!methods.includes(method)) return html('<p>Method not allowed</p>', 405, { allow: methods.join(', ') })
  if (duplicate) return refusal('invalid_request', `"${duplicate}" occurs twice`).answer
  return await handle(exchange)
}
