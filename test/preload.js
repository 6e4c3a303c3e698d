// Loaded before each test. Tests are compiled before they run, and of what tap adds to them, they leave out what takes
// more than half of their time.
import asyncHooks from 'node:async_hooks'
import { syncBuiltinESMExports } from 'node:module'

if (process.argv[1]?.endsWith('.test.js')) {
  // Processes that a test starts are in other folders, and need none of this.
  process.env.NODE_OPTIONS = process.env.NODE_OPTIONS.replace(/--import=\S*test\/preload\.js/, '')
  // The compiler of tap's loader.
  process.env.TAP_TYPE_STRIP_ONLY = '1'
}

// tap follows every promise of a test, to tell which subtest an uncaught error belongs to. Without that, an uncaught
// error ends the process, and so fails the file.
const { createHook } = asyncHooks
const inactive = { enable: () => inactive, disable: () => inactive }

asyncHooks.createHook = (callbacks) => {
  return new Error().stack.includes('/async-hook-domain/') ? inactive : createHook(callbacks)
}
syncBuiltinESMExports()
