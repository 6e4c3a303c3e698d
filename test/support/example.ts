import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { freePort } from './free-port.ts'
import type { Test } from 'tap'

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

/** The address of an example on a free port, and the options with which it logs in at the embedded provider. */
export async function startExampleProvider (t: Test): Promise<ExampleProvider> {
  const { startProvider } = await loadExample<typeof import('../../example/provider/provider.ts')>('provider/provider')
  const baseUrl = `http://localhost:${await freePort()}`
  const { close, ...provider } = await startProvider({
    port: await freePort(),
    redirectUris: [`${baseUrl}/auth/callback`],
    postLogoutRedirectUris: [`${baseUrl}/auth/logged-out`],
    home: baseUrl
  })
  t.teardown(close)
  return { ...provider, baseUrl }
}

export interface ExampleProvider {
  issuer: string
  clientId: string
  clientSecret: string
  baseUrl: string
}
