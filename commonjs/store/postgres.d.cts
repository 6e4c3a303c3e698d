// The types for `require('fastify-oidc/store/postgres')`, which loads the ECMAScript module.
import type * as esm from '../../dist/lib/store/postgres.js' with { 'resolution-mode': 'import' }

export type * from '../../dist/lib/store/postgres.js' with { 'resolution-mode': 'import' }

export declare const createPostgresStore: typeof esm.createPostgresStore
