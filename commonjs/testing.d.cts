// The types for `require('fastify-oidc/testing')`, which loads the ECMAScript module.
import type * as esm from '../dist/lib/testing/index.js' with { 'resolution-mode': 'import' }

export type * from '../dist/lib/testing/index.js' with { 'resolution-mode': 'import' }

export declare const testCertificate: typeof esm.testCertificate
export declare const client: typeof esm.client
export declare const startClock: typeof esm.startClock
export declare const faults: typeof esm.faults
export declare const logoutFaults: typeof esm.logoutFaults
export declare const startProvider: typeof esm.startProvider
export declare const sessionCookie: typeof esm.sessionCookie
export declare const storeContract: typeof esm.storeContract
