import { html, json, refusal } from './answer.ts'
import { askUser } from './approval.ts'
import { authenticateClient } from './authenticate-client.ts'
import { findUser, now, random } from './context.ts'
import { paths } from './paths.ts'
import type { Answer } from './answer.ts'
import type { Context, Device, Exchange } from './context.ts'

/** The device authorization endpoint (RFC 8628, section 3.1). */
export const device = async (exchange: Exchange): Promise<Answer> => {
  const { context, request: { body: { scope = '', code_challenge } } } = exchange
  const client = await authenticateClient(exchange)
  if (context.options.requirePkce && !code_challenge) throw refusal('invalid_request', 'PKCE is required')
  const device_code = random()
  const user_code = random().slice(0, 8).toUpperCase()
  context.devices.set(device_code, { client, scope, code_challenge, user_code, expires: now() + 600 })
  const verification_uri = context.issuer + paths(context.options).device_verification
  return json({
    device_code,
    user_code,
    verification_uri,
    verification_uri_complete: `${verification_uri}?user_code=${user_code}`,
    expires_in: 600,
    interval: context.options.deviceInterval ?? 5
  })
}

const findDevice = ({ devices }: Context, user_code: string | undefined): Device => {
  const newestFirst = [...devices.values()].reverse()
  const device = newestFirst.find((device) => user_code === undefined || device.user_code === user_code)
  if (!device) throw refusal('invalid_request', 'unknown user_code')
  return device
}

export const approveDevice = (context: Context, user_code?: string, sub?: string): void => {
  const device = findDevice(context, user_code)
  const { client, scope } = device
  device.grant = { client, user: findUser(context, sub), scope, sid: random(), auth_time: now(), acr: '1' }
}

export const denyDevice = (context: Context, user_code?: string): void => {
  findDevice(context, user_code).denied = true
}

/** The page where the user enters the code. The option `approve` decides, as at the authorization endpoint. */
export const deviceVerification = async ({ context, request: { query } }: Exchange): Promise<Answer> => {
  const user_code = query.user_code ?? ''
  findDevice(context, user_code)
  const decision = await askUser(context, query)
  if ('problem' in decision) denyDevice(context, user_code)
  else approveDevice(context, user_code, decision.user.sub)
  return html(`<p>${'problem' in decision ? 'Denied.' : 'Approved.'}</p>`)
}
