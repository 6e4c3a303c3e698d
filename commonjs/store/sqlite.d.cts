// The types for `require('fastify-oidc/store/sqlite')`, which loads the ECMAScript module.
import type * as esm from '../../dist/lib/store/sqlite.js' with { 'resolution-mode': 'import' }

export type * from '../../dist/lib/store/sqlite.js' with { 'resolution-mode': 'import' }

export declare const createSqliteStore: typeof esm.createSqliteStore
export declare const openDatabase: typeof esm.openDatabase
