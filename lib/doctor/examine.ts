import Fastify from 'fastify'
import { createConnections } from '../provider/connections.ts'
import { inspectProvider } from './inspect-provider.ts'
import { optionsOf, optionsToWrite, settingsOf, snippetOf } from './options.ts'
import { tryClient } from './try-client.ts'
import type { Asked } from './options.ts'
import type { Report } from './report.ts'

/** Examines a provider, and a client there when one is named. Throws FST_OIDC_OPTION when an argument is wrong. */
export async function examine (asked: Asked): Promise<Report> {
  const { provider, register } = settingsOf(optionsOf(asked))
  const connections = createConnections()
  const { log } = Fastify({ logger: false })
  try {
    const { metadata, keys, usable, ...inspected } = await inspectProvider(provider, connections)
    const { redirectUri } = register
    const tried = asked.clientId === undefined || usable === undefined
      ? undefined
      : await tryClient(provider, usable, { redirectUri, log, connections })
    const findings = [...inspected.findings, ...tried?.findings ?? []]
    const options = optionsToWrite(asked, findings)
    return {
      version: 1,
      issuer: asked.issuer,
      usable: findings.every(({ level }) => level !== 'error'),
      metadata,
      keys,
      client: tried?.client ?? null,
      login: null,
      findings,
      options,
      snippet: snippetOf(asked, options),
      register
    }
  } finally {
    connections.close()
  }
}
