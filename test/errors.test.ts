import t from 'tap'
import { asOidcError, checkWith, OidcError } from '../lib/errors.ts'
import { createErrorResponses } from '../lib/http/error-response.ts'
import { parseJson } from '../lib/util/json.ts'
import { stopClock } from './support/app.ts'
import type { FastifyRequest } from 'fastify'
import type { Check } from '../lib/errors.ts'
import type { ErrorResponseParts } from '../lib/http/error-response.ts'

const check: Check = checkWith('FST_OIDC_TOKEN')

t.test('a check throws an error with its code and detail', async (t) => {
  check(true, 'unused')
  t.throws(() => check(false, 'it has expired'), {
    code: 'FST_OIDC_TOKEN',
    statusCode: 401,
    detail: 'it has expired',
    message: 'The access token is not valid.'
  })
})

t.test('errors from a library get a code, an OidcError keeps its own', async (t) => {
  const rethrow = asOidcError('FST_OIDC_ID_TOKEN')
  const cause = new TypeError('bad signature')
  t.throws(() => rethrow(cause), { code: 'FST_OIDC_ID_TOKEN', detail: 'bad signature', cause })
  t.throws(() => rethrow('a text'), { code: 'FST_OIDC_ID_TOKEN', detail: 'a text' })
  const own = new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE')
  await t.rejects(Promise.reject(own).catch(rethrow), own)
})

t.test('text that is not JSON is `undefined`', async (t) => {
  t.same([parseJson('{"a":1}'), parseJson('null'), parseJson('{'), parseJson('')], [{ a: 1 }, null, undefined, undefined])
})

t.test('R9 of a flood of tokens some refusals are logged, all are counted, and other errors are logged as before', async (t) => {
  const clock = stopClock(t)
  let [logged, counted] = [0, 0]
  const request = { log: { info: () => { logged += 1 } } } as unknown as FastifyRequest
  const telemetry = { refused: () => { counted += 1 } }
  const { report } = createErrorResponses({ telemetry, digestOf: () => undefined } as unknown as ErrorResponseParts)
  const reportMany = (error: OidcError): void => { for (let count = 0; count < 100; count++) report(error, request) }
  const flood = new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { kind: 'flood', level: 'info', detail: 'too many' })
  reportMany(flood)
  t.same([logged, counted], [10, 100])
  clock.advance(2)
  reportMany(flood)
  t.same([logged, counted], [12, 200])
  reportMany(new OidcError('FST_OIDC_TOKEN', { detail: 'it has expired' }))
  t.same([logged, counted], [112, 300])
})
