// The types for `require('fastify-oidc/store/memory')`, which loads the ECMAScript module.
import type * as esm from '../../dist/lib/store/memory.js' with { 'resolution-mode': 'import' }

export type * from '../../dist/lib/store/memory.js' with { 'resolution-mode': 'import' }

export declare const createMemoryStore: typeof esm.createMemoryStore
