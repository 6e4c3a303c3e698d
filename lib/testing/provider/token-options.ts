import type { Injectable } from '../wire.ts'
import type { Alg } from './options.ts'

/** The claims of a token, or the members of its header. */
export type Claims = Record<string, unknown>

/**
 * Signs a token in another way than the client expects: with another algorithm of the key set, or with a trick.
 *
 * - `none`: no signature.
 * - `alternate-alg`: a valid signature, by an algorithm that is not registered for the client.
 * - `other-key`: signed by an unpublished key, with the `kid` of the published one.
 * - `broken-signature`: one bit of the signature is changed.
 * - `public-pem`, `public-jwk`: HS256, with the public key as the secret.
 * - `client-secret`: HS256, with the client secret.
 * - `no-kid`, `unknown-kid`: no `kid`, or a `kid` that is not in the key set.
 * - `embedded-jwk`, `jku`, `x5u`: signed by the key of an attacker, which the header contains or points to.
 * - `crit`: the header has a critical extension that no client knows.
 */
export type SignWith = Alg |
  'none' | 'alternate-alg' | 'other-key' | 'broken-signature' | 'public-pem' | 'public-jwk' | 'client-secret' |
  'no-kid' | 'unknown-kid' | 'embedded-jwk' | 'jku' | 'x5u' | 'crit'

/** Claims that replace or extend others, or a function that changes claims and header, or returns other claims. */
export type Overrides = Claims | ((claims: Claims, header: Claims) => Claims | void)

/** Options for a token that a test creates without a login. */
export interface TokenOptions {
  /** The user. Default: the first user. */
  sub?: string
  /** The client. Default: the first client. */
  client_id?: string
  /** Claims that replace or extend the usual ones (`undefined` removes one), or a function that changes them. */
  overrides?: Overrides
  /** Header members that replace or extend the usual ones. `undefined` removes one. */
  header?: Claims
  /** Signs the token in another way. Default: as registered for the client. */
  signWith?: SignWith
}

/** Options for an access token that a test creates without a login. */
export interface AccessTokenOptions extends TokenOptions {
  /** The granted scopes, separated by spaces. Default: `openid profile email`. */
  scope?: string
}

/** Options for a logout token. A valid one has `sub`, `sid` or both. */
export interface LogoutTokenOptions extends TokenOptions {
  sid?: string
}

/** Options for a logout token that is sent to an application. */
export interface SendLogoutOptions extends LogoutTokenOptions {
  /** Sends it through `inject` of this application, not over the network. */
  app?: Injectable
  /** The certificate authority to trust, PEM. */
  ca?: string
  /** More form fields of the request. */
  fields?: Record<string, string>
}

/** The response of a back-channel logout endpoint. */
export interface LogoutAnswer {
  status: number
  headers: Headers
  body: string
}
