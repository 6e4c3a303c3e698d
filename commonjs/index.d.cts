// The types for `require('fastify-oidc')`, which loads the ECMAScript module.
import type * as esm from '../dist/index.js' with { 'resolution-mode': 'import' }

export type * from '../dist/index.js' with { 'resolution-mode': 'import' }

declare const oidc: typeof esm.default
export default oidc

export declare const OidcError: typeof esm.OidcError
export type OidcError = esm.OidcError

export declare const refuse: typeof esm.refuse
