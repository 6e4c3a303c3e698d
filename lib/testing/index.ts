/**
 * The test kit: a real OpenID Provider that can misbehave, a headless browser, and a clock that tests move.
 *
 * @example
 * const provider = await startProvider()
 * const app = Fastify()
 * await app.register(oidc, {
 *   issuer: provider.issuer, clientId: 'web', clientSecret: provider.clients[0].client_secret,
 *   baseUrl: 'https://app.example.com', allowInsecureLoopback: true, session: { key }
 * })
 * const browser = client({ app, baseUrl: 'https://app.example.com' })
 *
 * const page = await browser.goto('/auth/login?return_to=/me')       // follows redirects and keeps cookies
 * provider.fault(faults['invalid-iss'])                              // the next ID tokens have a wrong issuer
 * provider.requests.filter(({ endpoint }) => endpoint === 'token')   // the token requests so far
 *
 * @module
 */
export { testCertificate } from './certificate.ts'
export { client } from './client.ts'
export { startClock } from './clock.ts'
export { faults } from './faults.ts'
export { logoutFaults } from './faults/logout-tokens.ts'
export { startProvider } from './provider.ts'
export { sessionCookie } from './session-cookie.ts'
export { storeContract } from './store-contract.ts'
export type { StoreTest } from './store-contract.ts'
export type { SessionCookieOptions } from './session-cookie.ts'
export type { TestCertificate } from './certificate.ts'
export type { ClientOptions, FetchOptions, FormBody, GotoOptions, StepOptions, TestBrowser } from './client.ts'
export type { Cookie, CookieJar, RefusedCookie } from './client/cookies.ts'
export type { PageForm } from './client/html.ts'
export type { Credentials, Hop, Page } from './client/navigate.ts'
export type { Injectable } from './wire.ts'
export type { FaultName } from './faults.ts'
export type { Clock } from './clock.ts'
export type { Answer } from './provider/answer.ts'
export type { Change, ContentFault, Garbage, TransportFault } from './provider/fault-effects.ts'
export type * from './provider/options.ts'
export type * from './provider/token-options.ts'
export type * from './provider/types.ts'
