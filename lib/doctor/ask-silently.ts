import { randomBytes } from 'node:crypto'
import { describeFailure } from '../provider/failure.ts'
import { createSend } from '../provider/send.ts'
import { finding } from './report.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Connections } from '../provider/connections.ts'
import type { Provider } from '../provider/provider.ts'
import type { Finding } from './report.ts'
import type { ProviderMetadata } from '../../types/options.ts'

export interface SilentAnswer {
  answer: string
  findings: Finding[]
}

/**
 * Sends an authorization request with prompt=none, as the browser of a user who is not logged in would. The provider
 * must answer with an error to the redirect URI (OpenID Connect Core 1.0, section 3.1.2.6), and show nothing.
 */
export async function askSilently (
  provider: Provider,
  metadata: ProviderMetadata,
  { redirectUri, connections }: { redirectUri: string, connections: Connections }
): Promise<SilentAnswer> {
  const { settings } = provider
  const state = randomBytes(32).toString('base64url')
  try {
    const url = await provider.authorizationUrl({
      state, redirectUri, nonce: state, codeVerifier: state, scope: settings.scope, resource: settings.resource
    }, { prompt: 'none' })
    const { status, location } = await open(url.href, settings, connections)
    return location?.startsWith(redirectUri) === true
      ? judgeResponse(new URL(location).searchParams, state, metadata)
      : judgePage(status, redirectUri)
  } catch (error) {
    return { answer: `failed: ${describeFailure(error)}`, findings: [] }
  }
}

async function open (
  url: string,
  settings: ProviderSettings,
  connections: Connections
): Promise<{ status: number, location: string | null }> {
  const signal = AbortSignal.timeout(settings.timeout * 1000)
  const send = createSend(settings, connections)
  const { status, headers, discard } = await send(url, { headers: { accept: 'text/html' } }, signal)
  discard()
  return { status, location: headers.get('location') }
}

function judgeResponse (params: URLSearchParams, state: string, metadata: ProviderMetadata): SilentAnswer {
  const error = params.get('error')
  if (error === null) {
    return {
      answer: 'no error',
      findings: [unable(
        'prompt=none without a login was answered without an error'
      )]
    }
  }
  const needsIssuer = metadata.authorization_response_iss_parameter_supported === true
  const lacking = [
    ...(params.get('state') === state ? [] : ['state']),
    ...(needsIssuer && params.get('iss') !== metadata.issuer ? ['iss'] : [])
  ]
  return lacking.length === 0
    ? { answer: error.slice(0, 100), findings: [] }
    : {
        answer: `${error.slice(0, 100)}, without ${lacking.join(' and ')}`,
        findings: [unable(
      `the error for prompt=none comes without ${lacking.join(' and ')}`
        )]
      }
}

function judgePage (status: number, redirectUri: string): SilentAnswer {
  if (status < 400) {
    return {
      answer: 'shows a page',
      findings: [unable(
        'the provider ignores prompt=none, and shows a page'
      )]
    }
  }
  return {
    answer: `status ${status}`,
    findings: [finding(
      'warning', 'authorization_refused',
      `the authorization endpoint answered ${status}, and not to the redirect URI`,
      `Register ${redirectUri} at the provider`
    )]
  }
}

function unable (message: string): Finding {
  return finding(
    'warning', 'prompt_none',
    message,
    'Do not use "silent" in guards: a visitor would get stuck at the provider'
  )
}
