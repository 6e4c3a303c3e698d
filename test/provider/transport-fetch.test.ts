import { testFaults } from '../support/transport-faults.ts'

// The option `fetch`, and the global `fetch` where it was replaced.
testFaults({ fetch: async (url, init) => await fetch(url, init) })
