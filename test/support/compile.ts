import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import ts from 'typescript'
import type { Test } from 'tap'

const ROOT = join(import.meta.dirname, '../..')
const SOURCES = ['index.ts', 'lib', 'test/support/process.ts']
/** What the command `faults` needs. */
export const FAULTS = ['bench', 'test/support']

/** A module without its types, whose relative imports name JavaScript files. Types are not checked. */
export function toJavaScript (code: string): string {
  const compilerOptions = {
    module: ts.ModuleKind.ESNext,
    target: ts.ScriptTarget.ES2022,
    verbatimModuleSyntax: true,
    rewriteRelativeImportExtensions: true
  }
  return ts.transpileModule(code, { compilerOptions }).outputText
}

/**
 * Compiles the sources and `more`, without checking types, and returns the folder of the result. A child process that
 * loads TypeScript itself takes seconds to start. The tests of the built package have compiled files already.
 */
export function compile (t: Test, more: string[] = []): string {
  if (import.meta.filename.endsWith('.js')) return ROOT
  const folder = t.testdir()
  for (const path of [...SOURCES, ...more].flatMap(filesIn).filter((path) => /(?<!\.d)\.ts$/.test(path))) {
    const target = join(folder, path.replace(/ts$/, 'js'))
    mkdirSync(dirname(target), { recursive: true })
    writeFileSync(target, toJavaScript(readFileSync(join(ROOT, path), 'utf8')))
  }
  return folder
}

function filesIn (path: string): string[] {
  if (path.endsWith('.ts')) return [path]
  return readdirSync(join(ROOT, path), { recursive: true, encoding: 'utf8' }).map((name) => join(path, name))
}
