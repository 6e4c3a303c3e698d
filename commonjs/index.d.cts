// The types for `require('fastify-oidc')`, which gives the plugin, with the other exports as members.
import type * as esm from '../dist/index.js' with { 'resolution-mode': 'import' }
import type {
  AccessTokenOptions, AnyReply, AnyRequest, Authentication, BearerOptions, BrokerFilter, BrokerOptions, ClaimSource,
  ClaimValue, ClaimsContext, ClientAuth, ClientKey, Dispatcher, Encryption, EntryOptions, ErrorContext, Fetch,
  GuardHandler, GuardOptions, Health, IdTokenClaims, IssueContext, ListedSession, LoginOptions, LogoutContext,
  LogoutOptions, Meter, NativeClientOptions, Oidc, OidcClaims, OidcErrorCode, OidcOptions, OidcPage, OidcSession,
  OidcToken, OidcTokens, OidcUser, OptionalGuardOptions, PageAction, PageContent, PageKind, PageLanguage,
  PageMessages, PageOptions, PageTexts, ProviderHealth, ProviderMetadata, ProviderOptions, RegistrationOptions,
  ResolvedProvider, Rotatable, RouteOptions, SessionFilter, SessionIdentity, SessionKey, SessionOptions,
  SigningAlgorithm, Store, StoreEntry, StoreHealth, Tracer, TrustedIssuer, UserinfoClaims
} from '../dist/index.js' with { 'resolution-mode': 'import' }

declare function oidc (...args: Parameters<typeof esm.default>): ReturnType<typeof esm.default>

declare namespace oidc {
  export const OidcError: typeof esm.OidcError
  export type OidcError = esm.OidcError
  export const refuse: typeof esm.refuse
  export { oidc as default, oidc as fastifyOidc }
  export type {
    AccessTokenOptions, AnyReply, AnyRequest, Authentication, BearerOptions, BrokerFilter, BrokerOptions,
    ClaimSource, ClaimValue, ClaimsContext, ClientAuth, ClientKey, Dispatcher, Encryption, EntryOptions,
    ErrorContext, Fetch, GuardHandler, GuardOptions, Health, IdTokenClaims, IssueContext, ListedSession,
    LoginOptions, LogoutContext, LogoutOptions, Meter, NativeClientOptions, Oidc, OidcClaims, OidcErrorCode,
    OidcOptions, OidcPage, OidcSession, OidcToken, OidcTokens, OidcUser, OptionalGuardOptions, PageAction,
    PageContent, PageKind, PageLanguage, PageMessages, PageOptions, PageTexts, ProviderHealth, ProviderMetadata,
    ProviderOptions, RegistrationOptions, ResolvedProvider, Rotatable, RouteOptions, SessionFilter, SessionIdentity,
    SessionKey, SessionOptions, SigningAlgorithm, Store, StoreEntry, StoreHealth, Tracer, TrustedIssuer,
    UserinfoClaims
  }
}

export = oidc
