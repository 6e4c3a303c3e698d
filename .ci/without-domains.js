// tap follows every promise of a test, to tell which subtest an uncaught error belongs to. That is up to half of the
// work of a test. Without it, an uncaught error ends the process, and so fails the file: run that file by itself then.
import asyncHooks from 'node:async_hooks'
import { syncBuiltinESMExports } from 'node:module'

const { createHook } = asyncHooks
const inactive = { enable: () => inactive, disable: () => inactive }

asyncHooks.createHook = (callbacks) => {
  return new Error().stack.includes('/async-hook-domain/') ? inactive : createHook(callbacks)
}
syncBuiltinESMExports()
