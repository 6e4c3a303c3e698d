import { words } from './context.ts'
import type { ProviderUser } from './options.ts'
import type { Claims } from './token-options.ts'

const scopeClaims: Record<string, string[]> = {
  profile: [
    'name', 'family_name', 'given_name', 'middle_name', 'nickname', 'preferred_username', 'profile', 'picture',
    'website', 'gender', 'birthdate', 'zoneinfo', 'locale', 'updated_at'
  ],
  email: ['email', 'email_verified'],
  address: ['address'],
  phone: ['phone_number', 'phone_number_verified']
}
const standardClaims = new Set(Object.values(scopeClaims).flat())

/** The claims that a scope gives access to (OpenID Connect Core 1.0, section 5.4), and all non-standard claims. */
export const userClaims = (user: ProviderUser, scope: string): Claims => {
  const granted = new Set(words(scope).flatMap((name) => scopeClaims[name] ?? []))
  return Object.fromEntries(Object.entries(user).filter(([name]) => granted.has(name) || !standardClaims.has(name)))
}
