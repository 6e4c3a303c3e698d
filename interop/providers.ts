import { glewlwyd } from './glewlwyd/provider.ts'
import { keycloak } from './keycloak/provider.ts'
import { lemonldapNg } from './lemonldap-ng/provider.ts'
import { oidcProvider } from './oidc-provider/provider.ts'
import type { InteropProvider } from './provider.ts'

/** The providers that have a folder, in the order in which they run: those that start slowly come last. */
export const providers: InteropProvider[] = [oidcProvider, lemonldapNg, glewlwyd, keycloak]

/** The variable that has the issuer. */
export function variableOf ({ name }: InteropProvider): string {
  return `OIDC_INTEROP_${name.toUpperCase().replaceAll('-', '_')}`
}
