/**
 * The clients that every provider registers, and the users that it knows. The folder of each provider has the same in
 * the provider's own form.
 */
export const AUDIENCE = 'https://api.interop.example'

export interface Client {
  clientId: string
  clientSecret: string
  /** The port of the application on 127.0.0.1. The redirect URIs are below it. */
  port: number
}

export const clients = {
  /** Back-channel logout, refresh tokens, the device flow, introspection; the user is not asked for consent. */
  web: { clientId: 'interop-web', clientSecret: 'interop-web-secret-0123456789-abcdef', port: 8970 },
  /** A second application with the same users. */
  other: { clientId: 'interop-other', clientSecret: 'interop-other-secret-0123456789-abcd', port: 8971 },
  /** Front-channel logout instead of back-channel logout. */
  framed: { clientId: 'interop-framed', clientSecret: 'interop-framed-secret-0123456789-abc', port: 8972 },
  /** Asks the user for consent at every login. */
  asking: { clientId: 'interop-asking', clientSecret: 'interop-asking-secret-0123456789-abc', port: 8970 },
  /** A secret with characters that RFC 6749, section 2.3.1, encodes. */
  odd: { clientId: 'interop-odd', clientSecret: 'odd/secret+with%20&=~"(100%)\' and-more', port: 8970 },
  /** A program without users: the grant client_credentials. */
  service: { clientId: 'interop-service', clientSecret: 'interop-service-secret-0123456789-ab', port: 8970 }
} as const satisfies Record<string, Client>

export type ClientName = keyof typeof clients

export interface User {
  username: string
  password: string
  email: string
}

/** Alice has the role `admin`, Bob has not. */
export const users = {
  alice: { username: 'alice', password: 'alice-password-1', email: 'alice@example.com' },
  bob: { username: 'bob', password: 'bob-password-2', email: 'bob@example.com' }
} as const satisfies Record<string, User>
