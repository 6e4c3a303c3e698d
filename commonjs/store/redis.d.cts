// The types for `require('fastify-oidc/store/redis')`, which loads the ECMAScript module.
import type * as esm from '../../dist/lib/store/redis.js' with { 'resolution-mode': 'import' }

export type * from '../../dist/lib/store/redis.js' with { 'resolution-mode': 'import' }

export declare const createRedisStore: typeof esm.createRedisStore
export declare const openClient: typeof esm.openClient
export declare const connectionOptions: typeof esm.connectionOptions
