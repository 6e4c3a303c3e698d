import Fastify from 'fastify'
import { createConnections } from '../provider/connections.ts'
import { inspectProvider } from './inspect-provider.ts'
import { optionsOf, optionsToWrite, settingsOf, snippetOf, suggestionsOf } from './options.ts'
import { tryClient } from './try-client.ts'
import { tryLogin } from './try-login.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { Connections } from '../provider/connections.ts'
import type { Asked } from './options.ts'
import type { ClientReport, Finding, LoginReport, Report } from './report.ts'
import type { ProviderMetadata } from '../../types/options.ts'

interface Parts {
  tell: (line: string) => void
  log: FastifyBaseLogger
  connections: Connections
}

interface Tried {
  client: ClientReport | null
  login: LoginReport | null
  findings: Finding[]
}

/**
 * Examines a provider, and a client there when one is named. `tell` gets what the user has to do meanwhile. Throws
 * FST_OIDC_OPTION when an argument is wrong.
 */
export async function examine (asked: Asked, tell: Parts['tell']): Promise<Report> {
  const { provider, register } = settingsOf(optionsOf(asked))
  const connections = createConnections()
  const parts = { tell, connections, log: Fastify({ logger: false }).log }
  try {
    const { metadata, keys, usable, findings: inspected } = await inspectProvider(provider, connections)
    const { client, login, findings } = usable === undefined || asked.clientId === undefined
      ? { client: null, login: null, findings: inspected }
      : await tryAsClient(asked, usable, inspected, parts)
    const options = optionsToWrite(asked, findings)
    return {
      version: 1,
      issuer: asked.issuer,
      usable: !hasErrors(findings),
      metadata,
      keys,
      client,
      login,
      findings,
      options,
      snippet: snippetOf(asked, options),
      register
    }
  } finally {
    connections.close()
  }
}

/** Tries the client, and a login when one is asked for and nothing stands against it. */
async function tryAsClient (
  asked: Asked,
  metadata: ProviderMetadata,
  inspected: Finding[],
  parts: Parts
): Promise<Tried> {
  const { provider, roleClaims, register: { redirectUri } } = settingsOf(optionsOf(asked))
  const tried = await tryClient(provider, metadata, { ...parts, redirectUri })
  const findings = [...inspected, ...tried.findings]
  if (asked.login === undefined || hasErrors(findings)) return { client: tried.client, login: null, findings }
  const suggested = suggestionsOf(findings)
  const options = { ...optionsOf(asked), ...suggested }
  const settings = { ...provider, ...suggested }
  const login = await tryLogin(metadata, {
    ...parts, ...asked.login, options, redirectUri, roleClaims, settings, clientSecret: asked.clientSecret
  })
  return { client: tried.client, login: login.login, findings: [...findings, ...login.findings] }
}

function hasErrors (findings: Finding[]): boolean {
  return findings.some(({ level }) => level === 'error')
}
