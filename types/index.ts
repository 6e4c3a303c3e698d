export type * from './claims.ts'
export type * from './fastify.ts'
export type * from './options.ts'
export type * from './store.ts'
