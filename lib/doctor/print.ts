import type { ClientReport, Finding, KeyReport, LoginReport, MetadataReport, Report } from './report.ts'

const MARKS = { error: 'ERROR  ', warning: 'warning', note: 'note   ' }
const MAX_LINE = 1000

/** The report as plain text, without colours. */
export function printReport (report: Report): string {
  const { issuer, metadata, keys, client, login, findings, snippet, register, usable } = report
  return [
    `fastify-oidc doctor: ${issuer}`,
    ...section('Metadata', metadata === null ? [] : metadataRows(metadata)),
    ...section('Keys', keys === null ? [] : keyRows(keys)),
    ...(client === null ? [] : section(`Client ${client.clientId}`, attemptRows(client))),
    ...(login === null ? [] : loginSections(login)),
    ...section('Findings', findings.flatMap(findingLines)),
    ...section('Options (openssl rand -base64 32 makes a session key)', snippet.trimEnd().split('\n')),
    ...section('Register at the provider', columns(Object.entries({
      'redirect URI': register.redirectUri,
      'post-logout redirect URI': register.postLogoutRedirectUri,
      'back-channel logout URI': register.backchannelLogoutUri,
      'front-channel logout URI': register.frontchannelLogoutUri
    }))),
    '',
    usable ? 'Usable.' : 'Not usable: see the errors above.'
  ].map((line) => clean(line).trimEnd()).join('\n')
}

/** The report as JSON, in which no character controls a terminal. */
export function printJson (report: Report): string {
  return JSON.stringify(report, null, 2).replace(CONTROL, (character) => {
    return character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}

// Control characters, and those that change the direction of a line: the provider chooses what is printed.
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** A line that controls no terminal. */
export function clean (line: string): string {
  return line.slice(0, MAX_LINE).replace(CONTROL, '?')
}

function section (title: string, lines: string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines.map((line) => `  ${line}`)]
}

function columns (rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, index) => Math.max(...rows.map((row) => (row[index] as string).length)))
  return rows.map((row) => row.map((cell, index) => cell.padEnd(widths[index] as number)).join('  ').trimEnd())
}

function metadataRows ({ url, endpoints, supports }: MetadataReport): string[] {
  return [
    `from ${url}`,
    ...columns([
      ...Object.entries(endpoints).map(([name, value]) => [name, value ?? 'none']),
      ...Object.entries(supports).map(([name, value]) => [name, shown(value)])
    ])
  ]
}

function shown (value: boolean | string[] | null): string {
  if (value === null) return 'not said'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  return value.length === 0 ? 'none' : value.join(' ')
}

function keyRows (keys: KeyReport[]): string[] {
  const rows = keys.map(({ kid, kty, alg, use }) => [kid, kty, alg, use].map((member) => member ?? '-'))
  return columns([['kid', 'kty', 'alg', 'use'], ...rows])
}

function attemptRows ({ attempts }: ClientReport): string[] {
  return columns(attempts.map(({ clientAuth, basicEncoding, result, detail }) => {
    return [basicEncoding === undefined ? clientAuth : `${clientAuth} (${basicEncoding})`, result, detail]
  }))
}

function loginSections ({ idToken, userinfo, accessToken, roles, promptNone, maxAge }: LoginReport): string[] {
  return [
    ...section('Claims of the ID token', claimRows(idToken)),
    ...section('Claims of UserInfo', userinfo === null ? ['none'] : claimRows(userinfo)),
    ...section('Claims of the access token', accessToken === null ? ['it is not a JWT'] : claimRows(accessToken)),
    ...section('Roles', columns(roles.map(({ source, path, roles }) => [source, path, roles.join(', ')]))),
    ...section('What the provider does', columns([
      ['prompt=none, not logged in', promptNone.anonymous],
      ['prompt=none, logged in', promptNone.loggedIn],
      ['max_age', maxAge]
    ]))
  ]
}

function claimRows (claims: Record<string, unknown>): string[] {
  return columns(Object.entries(claims).map(([name, value]) => [name, JSON.stringify(value)]))
}

function findingLines ({ level, message, nextStep }: Finding): string[] {
  return [`${MARKS[level]}  ${message}`, `         -> ${nextStep}`]
}
