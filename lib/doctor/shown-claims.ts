import { isRecord } from '../util/json.ts'

const MAX_TEXT = 1000
const MAX_ENTRIES = 100
const MAX_LEVELS = 8
const SECRET_NAME = /(?:access|refresh|id)_?token$|secret|password|assertion/i
const NOT_SHOWN = '[not shown]'

/**
 * Claims as they may be shown: without tokens and secrets, and of a limited size. Entra ID, for example, writes an
 * access token into `_claim_sources`.
 */
export function shownClaims (claims: object, secrets: readonly string[]): Record<string, unknown> {
  return shown(claims, secrets, MAX_LEVELS) as Record<string, unknown>
}

function shown (value: unknown, secrets: readonly string[], levels: number): unknown {
  if (typeof value === 'string') return isSecret(value, secrets) ? NOT_SHOWN : value.slice(0, MAX_TEXT)
  if (typeof value !== 'object' || value === null) return value
  if (levels === 0) return '…'
  const within = (member: unknown): unknown => shown(member, secrets, levels - 1)
  if (!isRecord(value)) return Object.values(value).slice(0, MAX_ENTRIES).map(within)
  const entries = Object.entries(value).filter(([, member]) => member !== undefined)
  return Object.fromEntries(entries.slice(0, MAX_ENTRIES).map(([name, member]) => {
    return [name, SECRET_NAME.test(name) ? NOT_SHOWN : within(member)]
  }))
}

function isSecret (text: string, secrets: readonly string[]): boolean {
  const isJwt = /^eyJ[\w-]+\.[\w-]+\./.test(text)
  return isJwt || secrets.some((secret) => text.includes(secret))
}
