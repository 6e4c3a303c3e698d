import { isRecord } from '../util/json.ts'
import { bool, check, optional, path } from './check.ts'
import type { RegistrationOptions } from '../../types/options.ts'

// What @fastify/autoload and fastify-cli add to each registration. Fastify reads it only for a plugin with a scope of
// its own, which this plugin has for its routes.

export const REGISTRATION_OPTIONS = ['prefix', 'logLevel', 'logSerializers', 'encapsulate']

export interface RegistrationSettings {
  /** What stands before `routes.prefix`, without a slash at its end. */
  addedPrefix: string
  /** What Fastify logs of the plugin's routes. */
  routeLog: Pick<RegistrationOptions, 'logLevel' | 'logSerializers'>
}

/** Throws FST_OIDC_OPTION. */
export function parseRegistration (options: RegistrationOptions): RegistrationSettings {
  const { prefix, logLevel, logSerializers, encapsulate } = options
  bool(encapsulate, false, 'encapsulate')
  check(logLevel === undefined || typeof logLevel === 'string', '"logLevel" must be the name of a level')
  return {
    addedPrefix: prefix === '' ? '' : optional(prefix, 'prefix', parsePrefix) ?? '',
    routeLog: {
      ...(logLevel !== undefined && { logLevel }),
      logSerializers: optional(logSerializers, 'logSerializers', parseSerializers) ?? {}
    }
  }
}

function parsePrefix (value: unknown, key: string): string {
  if (typeof value === 'string') checkFixed(value, `"${key}"`)
  return path(value, key)
}

/** Throws FST_OIDC_OPTION if a path has a parameter. `what` begins the message. */
export function checkFixed (path: string, what: string): void {
  check(
    !/[:*]/.test(path),
    `${what} must not have a parameter: an identity provider knows only fixed addresses. ` +
    'Register the plugin once without it, and find the tenants with "resolveProvider"'
  )
}

function parseSerializers (value: unknown, key: string): NonNullable<RegistrationOptions['logSerializers']> {
  check(isRecord(value), `"${key}" must be an object of functions`)
  for (const [name, serialize] of Object.entries(value)) {
    check(typeof serialize === 'function', `"${key}.${name}" must be a function`)
  }
  return value as NonNullable<RegistrationOptions['logSerializers']>
}
