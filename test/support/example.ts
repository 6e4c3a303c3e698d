import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const extension = import.meta.filename.slice(-3)
const hook = pathToFileURL(join(import.meta.dirname, 'own-package.js')).href

/** The options for a process that runs an example. */
export const execArgv = extension === '.ts' ? [...process.execArgv, '--import', hook] : process.execArgv

// What is built finds the built package by its name; the sources need help.
if (extension === '.ts') await import(hook)

/** The path of a file of the examples: from source or built, as the test itself. */
export function examplePath (name: string): string {
  return join(import.meta.dirname, `../../example/${name}${extension}`)
}

/** Loads a file of the examples. */
export async function loadExample<Exports> (name: string): Promise<Exports> {
  return await import(examplePath(name)) as Exports
}
