import { decodeJwt } from 'jose'
import t from 'tap'
import { BASE_URL, SESSION_KEY, stopClock } from '../support/app.ts'
import { AUDIENCE, EXCHANGE, PROVIDER_API, exchange, start, startExchange } from '../support/broker.ts'
import type { LightMyRequestResponse } from 'fastify'

t.test('S78 token exchange issues an access token for one of the provider', async (t) => {
  const { app, provider, token, api } = await start(t, { bearer: { audience: 'https://web.example.com' } })
  const subject = (more: Record<string, unknown> = {}, options = {}): string =>
    provider.accessToken({ sub: 'alice', overrides: { aud: 'https://web.example.com', ...more }, ...options })
  const exchange = async (more: Record<string, string> = {}): Promise<LightMyRequestResponse> =>
    await token({
      grant_type: EXCHANGE,
      subject_token: subject(),
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      ...more
    })
  const good = await exchange()
  t.match(good.json(), {
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    token_type: 'Bearer',
    scope: 'openid profile email'
  })
  t.notOk('refresh_token' in good.json())
  t.match((await api(good.json().access_token)).json(), { claims: { sub: 'alice', iss: BASE_URL, aud: AUDIENCE } })
  t.match((await exchange({ scope: 'email' })).json(), { scope: 'email' })
  t.match((await exchange({ audience: AUDIENCE })).json(), { access_token: String })
  t.match(
    (await token({ grant_type: EXCHANGE, subject_token: subject() })).json(),
    { access_token: String },
    'subject_token_type is optional (py-oidc-auth)'
  )
  const soon = Math.floor(Date.now() / 1000) + 60
  t.equal(
    decodeJwt((await exchange({ subject_token: subject({ exp: soon }) })).json().access_token).exp,
    soon,
    'the new token does not outlive the exchanged one'
  )
  const refused: Array<[Record<string, string>, string]> = [
    [{ scope: 'admin' }, 'invalid_scope'],
    [{ audience: 'other' }, 'invalid_target'],
    [{ resource: 'https://other.test' }, 'invalid_target'],
    [{ actor_token: 'x' }, 'invalid_request'],
    [{ subject_token_type: 'urn:ietf:params:oauth:token-type:id_token' }, 'invalid_request'],
    [{ requested_token_type: 'urn:ietf:params:oauth:token-type:refresh_token' }, 'invalid_request'],
    [{ subject_token: 'x' }, 'invalid_grant'],
    [{ subject_token: subject({ aud: 'other' }) }, 'invalid_grant'],
    [{ subject_token: subject({ iss: 'https://evil.test' }) }, 'invalid_grant'],
    [{ subject_token: subject({ exp: 1 }) }, 'invalid_grant'],
    [{ subject_token: subject({ sub: 'web' }) }, 'invalid_grant'],
    [{ subject_token: subject({ cnf: { jkt: 'x' } }) }, 'invalid_grant'],
    [{ subject_token: provider.idToken({ sub: 'alice' }) }, 'invalid_grant'],
    [{ subject_token: good.json().access_token }, 'invalid_grant'],
    [{ client_id: 'unknown' }, 'invalid_client']
  ]
  for (const [more, error] of refused) {
    t.match((await exchange(more)).json(), { error }, JSON.stringify(more).slice(0, 80))
  }
  t.equal(
    (await api(subject())).statusCode,
    200,
    'tokens of the provider are accepted as well, because "bearer" is set'
  )

  await app.oidc.sessions.revoke({ sub: 'alice' })
  t.equal((await api(good.json().access_token)).statusCode, 401, 'a logout everywhere ends the exchanged token')
  t.match(
    (await exchange({ subject_token: subject({ iat: Math.floor(Date.now() / 1000) - 5 }) })).json(),
    { error: 'invalid_grant' },
    'a token from before the logout is not exchanged'
  )
  const lax = await start(t, { bearer: { audience: 'https://web.example.com', strictType: false } })
  t.match(
    (
      await lax.token({
        grant_type: EXCHANGE,
        subject_token: lax.provider.accessToken({
          sub: 'alice',
          overrides: { aud: 'https://web.example.com', iat: undefined }
        })
      })
    ).json(),
    { error: 'invalid_grant' }
  )
  const away = provider.fault({ on: 'jwks', status: 503, body: '' })
  provider.rotateKeys()
  t.match((await exchange({ subject_token: subject() })).json(), { error: 'temporarily_unavailable' })
  away()

  const without = await start(t)
  t.match((await without.token({ grant_type: EXCHANGE, subject_token: 'x' })).json(), {
    error: 'unsupported_grant_type'
  })
  t.equal(
    (await without.api(without.provider.accessToken({ sub: 'alice', overrides: { aud: AUDIENCE } }))).statusCode,
    401,
    'V17 without "bearer" tokens of the provider are refused'
  )
})

t.test('S72 token exchange refuses expired, old and unbound tokens, and tokens from before a logout', async (t) => {
  const clock = stopClock(t)
  const now = Math.floor(Date.now() / 1000)
  const world = await startExchange(t, { session: { key: SESSION_KEY, maxAge: 600 } })
  t.equal((await exchange(world, world.subject())).statusCode, 200)
  t.match(
    (await exchange(world, world.subject({ exp: now - 5 }))).json(),
    { error: 'invalid_grant', error_description: /expired/ },
    'the clock tolerance does not apply to an exchange'
  )

  const early = (await exchange(world, world.subject({ iat: now + 20 }))).json()
  await world.app.oidc.sessions.revoke({ sub: 'alice' })
  t.equal((await world.api(early.access_token)).statusCode, 401, 'a token with a later iat does not survive the logout')

  const old = world.subject()
  clock.advance(2)
  await world.app.oidc.sessions.revoke({ sub: 'alice' })
  t.match((await exchange(world, old)).json(), { error: 'invalid_grant' })
  clock.advance(700)
  t.match(
    (await exchange(world, old)).json(),
    { error: 'invalid_grant', error_description: /too old/ },
    'a token is too old before the logout is forgotten'
  )

  const bound = await startExchange(t, { bearer: { audience: PROVIDER_API, dpop: 'required' } })
  t.equal((await bound.api(bound.subject())).statusCode, 401)
  t.match(
    (await exchange(bound, bound.subject())).json(),
    { error: 'invalid_grant' },
    'a token that the API refuses is not exchanged'
  )
})
