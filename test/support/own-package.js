// Lets the sources of the examples import 'fastify-oidc' as an application does, before anything is built.
// Node.js runs this twice: as `--import` or import of a test, and in the thread that resolves modules.
import { register } from 'node:module'
import { isMainThread } from 'node:worker_threads'

if (isMainThread) register(import.meta.url)

const root = new URL('../../', import.meta.url)

/** 'fastify-oidc' is index.ts, 'fastify-oidc/testing' and 'fastify-oidc/store/…' are in lib/. */
function sourceOf (specifier) {
  if (specifier === 'fastify-oidc') return new URL('index.ts', root).href
  if (specifier === 'fastify-oidc/testing') return new URL('lib/testing/index.ts', root).href
  if (specifier.startsWith('fastify-oidc/store/')) return new URL(`lib/${specifier.slice('fastify-oidc/'.length)}.ts`, root).href
  return specifier
}

export async function resolve (specifier, context, next) {
  return await next(sourceOf(specifier), context)
}
