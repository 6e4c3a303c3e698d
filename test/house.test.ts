import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'

/** The rooms from the ground up: a room imports only itself and rooms before it, types included. */
const ROOMS = [
  'lib/errors.ts', 'types', 'lib/util', 'lib/pages', 'lib/options', 'lib/telemetry.ts', 'lib/sealer.ts', 'lib/http',
  'lib/store', 'lib/provider', 'lib/session', 'lib/login', 'lib/guard', 'lib/broker', 'lib/logout', 'lib/health.ts',
  'lib/compose.ts', 'lib/decorator.ts', 'lib/routes', 'lib/testing', 'index.ts', 'lib/doctor'
]

const built = import.meta.filename.endsWith('.js')
const root = join(import.meta.dirname, built ? '../..' : '..')

function sourceFiles (): string[] {
  const all = ['lib', 'types'].flatMap((folder) => {
    return readdirSync(join(root, folder), { recursive: true }).map((file) => `${folder}/${String(file)}`)
  })
  return ['index.ts', ...all.filter((file) => file.endsWith('.ts'))]
}

function importsOf (file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8')
  const specifiers = [...text.matchAll(/(?:from|import) ?\(?'(\.[^']+)'/g)].map(([, specifier]) => specifier as string)
  return specifiers.map((specifier) => normalize(join(dirname(file), specifier)))
}

function roomOf (file: string): number {
  return ROOMS.findIndex((room) => file === room || file.startsWith(`${room}/`))
}

const imports = new Map(sourceFiles().map((file) => [file, importsOf(file)]))

t.test('every file is in a room', async (t) => {
  t.ok(imports.size > 100, 'the files are found')
  for (const file of imports.keys()) t.not(roomOf(file), -1, `${file} needs a room in test/house.test.ts`)
})

t.test('a room imports only itself and rooms before it', async (t) => {
  for (const [file, targets] of imports) {
    for (const target of targets) {
      t.ok(imports.has(target), `${file} imports ${target}, which exists`)
      const message = `${file} imports ${target}: ${ROOMS[roomOf(target)]} comes after ${ROOMS[roomOf(file)]}`
      t.ok(roomOf(target) <= roomOf(file), message)
    }
  }
})

t.test('no file imports itself by way of others', async (t) => {
  const done = new Set<string>()
  const visit = (file: string, path: string[]): void => {
    t.notOk(path.includes(file), `a circle: ${[...path.slice(path.indexOf(file)), file].join(' -> ')}`)
    if (done.has(file) || path.includes(file)) return
    for (const target of imports.get(file) as string[]) visit(target, [...path, file])
    done.add(file)
  }
  for (const file of imports.keys()) visit(file, [])
})

t.test('only the routes, the decorator and the entry point know all parts', async (t) => {
  for (const [file, targets] of imports) {
    const mayKnow = ['lib/routes', 'lib/decorator.ts', 'index.ts'].some((room) => file.startsWith(room))
    t.ok(mayKnow || !targets.includes('lib/compose.ts'), `${file} names what it needs instead of lib/compose.ts`)
  }
})

/** What not every application needs. */
const CONFIGURED = [
  'lib/broker/broker.ts', 'lib/broker/grant-types/index.ts', 'lib/routes/token.ts', 'lib/guard/bearer.ts',
  'lib/guard/dpop.ts', 'lib/guard/openapi.ts', 'lib/store/memory.ts', 'lib/store/sqlite.ts', 'lib/store/postgres.ts',
  'lib/store/redis.ts', 'lib/pages/languages/de.ts', 'lib/testing/index.ts', 'lib/doctor/cli.ts'
]

t.test('the plugin loads what an application has configured, and no more', async (t) => {
  const loaded = new Set(['index.ts'])
  const packages = new Set<string>()
  for (const file of loaded) { // and what is added meanwhile
    const text = readFileSync(join(root, file), 'utf8')
    for (const [, target = ''] of text.matchAll(/^(?:import|export) (?!type )[^']*from '([^']+)'/gm)) {
      if (target.startsWith('.')) loaded.add(normalize(join(dirname(file), target)))
      else if (!target.startsWith('node:')) packages.add(target)
    }
  }
  t.ok(loaded.has('lib/session/sessions.ts'), 'what each application needs')
  for (const file of CONFIGURED) t.ok(imports.has(file) && !loaded.has(file), file)
  t.same([...packages].sort(), ['fastify-plugin', 'jose', 'openid-client'])
})
