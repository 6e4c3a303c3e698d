// Loaded before each process of a run of the built tests: writes which parts of the package the process has run, where
// `tap report` looks. NODE_V8_COVERAGE would do the same for all of node_modules, which makes gigabytes.
import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { Session } from 'node:inspector'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const built = pathToFileURL(join(import.meta.dirname, '../dist/')).href
const folder = join(import.meta.dirname, '../.tap/coverage')
const isOfPackage = ({ url }) => url.startsWith(built) && !url.startsWith(`${built}test/`)

const session = new Session()
session.connect()
session.post('Profiler.enable')
session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })

function write () {
  session.post('Profiler.takePreciseCoverage', (_error, { result }) => {
    const own = result.filter(isOfPackage)
    if (own.length === 0) return
    writeFileSync(join(folder, `${randomUUID()}.json`), JSON.stringify({ result: own }))
  })
}

process.on('exit', write)
// A signal without another listener ends the process without `exit`.
process.on('SIGTERM', function end (signal) {
  if (process.listenerCount(signal) > 1) return
  write()
  process.off(signal, end).kill(process.pid, signal)
})
