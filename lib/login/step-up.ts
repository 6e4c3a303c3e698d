import { OidcError } from '../errors.ts'
import type { FastifyRequest } from 'fastify'
import type { Sealer } from '../sealer.ts'
import type { AppState } from './pending-login.ts'
import type { PendingLogins } from './pending-logins.ts'

/** What a guard, a page or the application demands of the login itself. */
export interface Requirements {
  maxAge?: number | undefined
  acrValues?: string[] | undefined
  /** The provider lets the user choose another account. */
  otherAccount?: boolean | undefined
  /** With the identifier by which the browser is recognized. It counts in no other one. */
  appState?: AppState & { id: string } | undefined
}

/**
 * The parameter `step_up` of the login route, for a script or a user that was refused, or who chooses a provider. It is
 * sealed, because the query of a login must not choose what is asked of the provider.
 */
export interface StepUp {
  /** `undefined` when nothing is demanded. */
  seal: (requirements: Requirements) => string | undefined
  /** Throws FST_OIDC_PARAMETER, and FST_OIDC_STATE when it has an `appState` of another browser. */
  open: (value: string | undefined, request: FastifyRequest) => Requirements
}

export function createStepUp (sealer: Sealer, pendingLogins: Pick<PendingLogins, 'isOfBrowser'>): StepUp {
  return {
    seal (requirements) {
      const isDemanding = Object.values(requirements).some((value) => value !== undefined)
      return isDemanding ? sealer.seal('step-up', requirements) : undefined
    },

    open (value, request) {
      if (value === undefined) return {}
      const opened = sealer.open('step-up', value)
      if (opened === null) throw new OidcError('FST_OIDC_PARAMETER', { detail: 'step_up was not made by this application' })
      const requirements = opened.content as Requirements
      const { appState } = requirements
      if (appState !== undefined && !pendingLogins.isOfBrowser(request, appState.id)) throw notOfBrowser()
      return requirements
    }
  }
}

// A link of another browser must not decide what a login here is for.
function notOfBrowser (): OidcError {
  const detail = 'step_up has an "appState" for another browser, or the browser has no cookie of its login any more'
  return new OidcError('FST_OIDC_STATE', { detail })
}
