import * as client from 'openid-client'
import { OidcError } from '../errors.ts'
import { LateError } from '../util/at-most.ts'
import { importSigningKey, toJwk } from './private-keys.ts'
import type { CryptoKey, JWK } from 'jose'
import type { ProviderSettings } from '../options/provider.ts'
import type { ClientKey } from '../../types/options.ts'

type Credentials = Pick<ProviderSettings,
  'clientAuth' | 'clientSecret' | 'clientKey' | 'basicEncoding' | 'clientAssertionAudience'>
type Authenticate = (...request: Parameters<client.ClientAuth>) => void | Promise<void>

/**
 * Client authentication (OpenID Connect Core 1.0, section 9). Gets the secret or the key for every request, because
 * they can change.
 */
export function createClientAuthentication (credentials: Credentials): client.ClientAuth {
  const { clientAuth, clientSecret, clientKey, basicEncoding, clientAssertionAudience } = credentials
  const withSecret = (method: (secret: string) => client.ClientAuth): Authenticate => async (...request) => {
    await method(await current(clientSecret, 'clientSecret'))(...request)
  }
  const assertion = assertionOptions(clientAssertionAudience)
  const signerFor = createSigners(assertion)
  const methods: Record<Credentials['clientAuth'], () => Authenticate> = {
    client_secret_basic: () => withSecret((secret) => basicAuthentication(secret, basicEncoding)),
    client_secret_post: () => withSecret(client.ClientSecretPost),
    client_secret_jwt: () => withSecret((secret) => client.ClientSecretJwt(secret, assertion())),
    private_key_jwt: () => async (...request) => {
      const sign = await signerFor(await current(clientKey, 'clientKey'))
      await sign(...request)
    },
    tls_client_auth: () => client.TlsClientAuth(),
    none: () => client.None()
  }
  return methods[clientAuth]()
}

/**
 * HTTP Basic authentication (RFC 6749, section 2.3.1). Identifier and secret are encoded, but only where a server that
 * decodes them and one that does not would read something else: a UUID stays as it is. A space becomes `%20`, because
 * some servers do not decode `+`.
 */
function basicAuthentication (secret: string, encoding: ProviderSettings['basicEncoding']): client.ClientAuth {
  const encode = encoding === 'raw' ? (text: string): string => text : encodeCredential
  return (_server, { client_id: clientId }, _body, headers) => {
    const credentials = Buffer.from(`${encode(clientId)}:${encode(secret)}`).toString('base64')
    headers.set('authorization', `Basic ${credentials}`)
  }
}

/** Encodes all characters but letters, digits and `-._*`, which `application/x-www-form-urlencoded` leaves as well. */
function encodeCredential (text: string): string {
  return encodeURIComponent(text).replace(/[!'()~]/g, (character) => {
    return `%${character.charCodeAt(0).toString(16).toUpperCase()}`
  })
}

type ModifyAssertion = client.ModifyAssertionOptions

/** The `aud` of client assertions is the issuer (RFC 7523, section 3), unless the options name another one. */
function assertionOptions (audience: string | undefined): (header?: Record<string, string>) => ModifyAssertion {
  return (ownHeader = {}) => ({
    [client.modifyAssertion]: (header, payload) => {
      Object.assign(header, ownHeader)
      if (audience !== undefined) payload.aud = audience
    }
  })
}

async function current<T> (credential: () => Promise<T>, name: string): Promise<T> {
  try {
    return await credential()
  } catch (cause) {
    // The message of any other error may contain the secret.
    const reason = cause instanceof OidcError || cause instanceof LateError ? `: ${cause.message}` : ''
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { cause, detail: `the ${name} is not available${reason}` })
  }
}

type AssertionOptions = ReturnType<typeof assertionOptions>

/** Imports a key once, and again when it has changed. */
function createSigners (assertion: AssertionOptions): (key: ClientKey) => Promise<Authenticate> {
  let last: { key: ClientKey, signer: Promise<Authenticate> } | undefined
  return async (key) => {
    if (last?.key !== key) last = { key, signer: createSigner(key, assertion) }
    return await last.signer
  }
}

async function createSigner (key: ClientKey, assertion: AssertionOptions): Promise<Authenticate> {
  try {
    const jwk = toJwk(key)
    const imported: CryptoKey = await importSigningKey(jwk)
    return client.PrivateKeyJwt({ key: imported }, assertion(headerOf(jwk)))
  } catch (cause) {
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { cause, detail: 'the clientKey cannot be used' })
  }
}

// Some providers look up the key by its certificate (RFC 7515, sections 4.1.7 and 4.1.8).
function headerOf (jwk: JWK): Record<string, string> {
  const members = ['alg', 'kid', 'x5t', 'x5t#S256'] as const
  return Object.fromEntries(members.flatMap((name) => typeof jwk[name] === 'string' ? [[name, jwk[name]]] : []))
}
