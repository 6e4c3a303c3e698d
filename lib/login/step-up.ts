import { OidcError } from '../errors.ts'
import type { Sealer } from '../sealer.ts'

/** What a guard or a page demands of the login itself. */
export interface Requirements {
  maxAge?: number | undefined
  acrValues?: string[] | undefined
  /** The provider lets the user choose another account. */
  otherAccount?: boolean | undefined
}

/**
 * The parameter `step_up` of the login route, for a script or a user that was refused. It is sealed, because the query
 * of a login must not choose what is asked of the provider.
 */
export interface StepUp {
  /** `undefined` when nothing is demanded. */
  seal: (requirements: Requirements) => string | undefined
  /** Throws FST_OIDC_PARAMETER. */
  open: (value: string | undefined) => Requirements
}

export function createStepUp (sealer: Sealer): StepUp {
  return {
    seal ({ maxAge, acrValues, otherAccount }) {
      if (maxAge === undefined && acrValues === undefined && otherAccount === undefined) return undefined
      return sealer.seal('step-up', { maxAge, acrValues, otherAccount })
    },

    open (value) {
      if (value === undefined) return {}
      const opened = sealer.open('step-up', value)
      if (opened === null) throw new OidcError('FST_OIDC_PARAMETER', { detail: 'step_up was not made by this application' })
      return opened.content as Requirements
    }
  }
}
