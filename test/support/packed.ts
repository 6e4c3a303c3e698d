import {
  cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
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
  if (BUILT) copyBuild(join(target, 'dist'))
  else build(join(target, 'dist'))
  return folder
}

function copyBuild (outDir: string): void {
  for (const path of ['index.js', 'index.d.ts', 'lib', 'types']) {
    cpSync(join(ROOT, 'dist', path), join(outDir, path), { recursive: true })
  }
}

function build (outDir: string): void {
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, ROOT)
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    exports: Record<string, string | { types: string }>
  }
  const entries = Object.values(exports).flatMap((entry) => typeof entry === 'string' ? [] : [entry.types])
  const sources = entries.map((path) => join(ROOT, path.replace('./dist/', '').replace('.d.ts', '.ts')))
  ts.createProgram(sources, { ...options, outDir, noCheck: true, sourceMap: false }).emit()
}

/** Writes files, by their paths in the folder. */
export function writeFiles (folder: string, files: Record<string, string>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(folder, dirname(path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
}
