import { keyFaults } from './faults/keys.ts'
import { metadataFaults } from './faults/metadata.ts'
import { responseFaults } from './faults/responses.ts'
import { tokenFaults } from './faults/tokens.ts'
import { wireFaults } from './faults/wire.ts'
import type { Fault } from './provider/types.ts'

const all = { ...tokenFaults, ...responseFaults, ...metadataFaults, ...keyFaults, ...wireFaults }

/** The name of a fault in `faults`. */
export type FaultName = keyof typeof all

/**
 * Faults by name. The first ones have the names of the modules of the OpenID Foundation's conformance suite. The faults
 * of the network have the form `{endpoint}-{fault}`, for example `token-503`, `jwks-hang` and `metadata-gzip-bomb`.
 *
 * @example
 * provider.fault(faults['invalid-iss'])
 * provider.fault({ ...faults['token-503'], times: 1 })
 */
export const faults: { readonly [Name in FaultName]: typeof all[Name] extends Fault[] ? Fault[] : Fault } = all
