import { randomBytes } from 'node:crypto'
import type { Fault } from '../provider/types.ts'

type ChangeParams = (params: URLSearchParams) => void

const response = (change: ChangeParams): Fault => ({ on: 'authorize', authorizationResponse: change })
const afterLogout = (change: ChangeParams): Fault => ({ on: 'end_session', logoutResponse: change })
const addTo = (name: string, text: string): Fault =>
  response((params) => params.set(name, `${params.get(name)}${text}`))
const repeat = (name: string): Fault => response((params) => params.append(name, String(params.get(name))))
const leaveOut = (name: string): Fault => response((params) => params.delete(name))

export const responseFaults = {
  // fapi2-security-profile-final-client-test-…
  'invalid-authorization-response-iss': addTo('iss', '1'),
  'remove-authorization-response-iss': leaveOut('iss'),
  'ensure-authorization-response-with-invalid-state-fails': addTo('state', '1'),
  'ensure-authorization-response-with-invalid-missing-state-fails': leaveOut('state'),

  'authorization-response-without-code': leaveOut('code'),
  'authorization-response-other-code': addTo('code', '1'),
  'authorization-response-duplicate-code': repeat('code'),
  'authorization-response-duplicate-state': repeat('state'),
  'authorization-response-duplicate-iss': repeat('iss'),
  'authorization-response-with-tokens': response((params) => {
    params.set('access_token', 'from-the-front')
    params.set('id_token', 'from.the.front')
  }),
  'authorization-response-error': response((params) => {
    params.delete('code')
    params.set('error', 'access_denied')
    params.set('error_description', '<script>alert(1)</script>')
  }),
  'authorization-response-error-and-code': response((params) => params.set('error', 'server_error')),

  // oidcc-client-test-…
  'rp-init-logout-other-state': afterLogout((params) => params.set('state', randomBytes(12).toString('base64url'))),
  'rp-init-logout-no-state': afterLogout((params) => params.delete('state'))
} satisfies Record<string, Fault>
