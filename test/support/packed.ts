import {
  cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import ts from 'typescript'
import type { Test } from 'tap'

const BUILT = import.meta.filename.endsWith('.js')
const ROOT = join(import.meta.dirname, BUILT ? '../../..' : '../..')

/**
 * A folder outside of the sources, in whose node_modules the package is as `npm pack` makes it, beside the packages
 * that are installed here.
 */
export function installPackage (t: Test): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'fastify-oidc-')))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const modules = join(folder, 'node_modules')
  mkdirSync(modules)
  for (const name of readdirSync(join(ROOT, 'node_modules'))) {
    symlinkSync(join(ROOT, 'node_modules', name), join(modules, name))
  }
  const target = join(modules, 'fastify-oidc')
  mkdirSync(target)
  cpSync(join(ROOT, 'package.json'), join(target, 'package.json'))
  cpSync(join(ROOT, 'commonjs'), join(target, 'commonjs'), { recursive: true })
  writeFiles(join(target, 'dist'), Object.fromEntries(builtFiles()))
  return folder
}

/** What `npm run build` writes of the package, by the paths in `dist/`. The tests of the build find it there. */
export function builtFiles (): Map<string, string> {
  return BUILT ? found(join(ROOT, 'dist')) : compiled()
}

function found (dist: string): Map<string, string> {
  const paths = readdirSync(dist, { recursive: true, encoding: 'utf8' })
    .filter((path) => /^(?:index|lib|types)\b.*\.(?:d\.ts|js)$/.test(path))
  return new Map(paths.map((path) => [path, readFileSync(join(dist, path), 'utf8')]))
}

function compiled (): Map<string, string> {
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, ROOT)
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    exports: Record<string, string | { types: string }>
  }
  const entries = Object.values(exports).flatMap((entry) => typeof entry === 'string' ? [] : [entry.types])
  const sources = entries.map((path) => join(ROOT, path.replace('./dist/', '').replace('.d.ts', '.ts')))
  const files = new Map<string, string>()
  ts.createProgram(sources, { ...options, noCheck: true, sourceMap: false })
    .emit(undefined, (path, text) => files.set(relative(join(ROOT, 'dist'), path), text))
  return files
}

/** The declarations of the package, by the paths in `dist/`. */
export function declarations (): Map<string, string> {
  return new Map([...builtFiles()].filter(([path]) => path.endsWith('.d.ts')))
}

/** Writes files, by their paths in the folder. */
export function writeFiles (folder: string, files: Record<string, string>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(folder, dirname(path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
}
