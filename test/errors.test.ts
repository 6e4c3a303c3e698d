import t from 'tap'
import { asOidcError, checkWith, OidcError } from '../lib/errors.ts'
import { parseJson } from '../lib/util/json.ts'
import type { Check } from '../lib/errors.ts'

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
