import * as client from 'openid-client'
import { OidcError } from '../errors.ts'
import { importSigningKey, toJwk } from './private-keys.ts'
import type { JWK } from 'jose'
import type { ProviderSettings } from '../options/provider.ts'
import type { ClientKey } from '../../types/options.ts'

type Credentials = Pick<ProviderSettings, 'clientAuth' | 'clientSecret' | 'clientKey'>
type Authenticate = (...request: Parameters<client.ClientAuth>) => void | Promise<void>

/**
 * Client authentication (OpenID Connect Core 1.0, section 9). Gets the secret or the key for every request, because
 * they can change.
 */
export function createClientAuthentication ({ clientAuth, clientSecret, clientKey }: Credentials): client.ClientAuth {
  const withSecret = (method: (secret: string) => client.ClientAuth): Authenticate => async (...request) => {
    await method(await current(clientSecret, 'clientSecret'))(...request)
  }
  const signerFor = createSigners()
  const methods: Record<Credentials['clientAuth'], () => Authenticate> = {
    client_secret_basic: () => withSecret(client.ClientSecretBasic),
    client_secret_post: () => withSecret(client.ClientSecretPost),
    client_secret_jwt: () => withSecret(client.ClientSecretJwt),
    private_key_jwt: () => async (...request) => {
      const sign = await signerFor(await current(clientKey, 'clientKey'))
      await sign(...request)
    },
    tls_client_auth: () => client.TlsClientAuth(),
    none: () => client.None()
  }
  return methods[clientAuth]()
}

async function current<T> (credential: () => Promise<T>, name: string): Promise<T> {
  try {
    return await credential()
  } catch (cause) {
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { cause, detail: `the ${name} is not available` })
  }
}

/** Imports a key once, and again when it has changed. */
function createSigners (): (key: ClientKey) => Promise<Authenticate> {
  let last: { key: ClientKey, signer: Promise<Authenticate> } | undefined
  return async (key) => {
    if (last?.key !== key) last = { key, signer: createSigner(key) }
    return await last.signer
  }
}

async function createSigner (key: ClientKey): Promise<Authenticate> {
  try {
    const jwk = toJwk(key)
    const addToHeader: client.ModifyAssertionFunction = (header) => { Object.assign(header, headerOf(jwk)) }
    return client.PrivateKeyJwt({ key: await importSigningKey(jwk) }, { [client.modifyAssertion]: addToHeader })
  } catch (cause) {
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { cause, detail: 'the clientKey cannot be used' })
  }
}

// Some providers look up the key by its certificate (RFC 7515, sections 4.1.7 and 4.1.8).
function headerOf (jwk: JWK): Record<string, string> {
  const members = ['alg', 'kid', 'x5t', 'x5t#S256'] as const
  return Object.fromEntries(members.flatMap((name) => typeof jwk[name] === 'string' ? [[name, jwk[name]]] : []))
}
