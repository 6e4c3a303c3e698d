import type { Start } from './party.ts'

/** A module of the OpenID Foundation's conformance suite for relying parties. */
interface Description {
  /** `C1` … `C58` in the table of security.md, or `extra`. */
  number: string
  /** The module's name in the suite. */
  id: string
  /** The test plan of the module. */
  plan: string
  /** Distinguishes entries with the same id. */
  variant?: string
  /** What the provider does. */
  provider: string
  /** What the relying party must do. */
  required: string
}

/** A module that runs. `run` returns what happened, or throws when the relying party does not do what is required. */
export interface RunModule extends Description {
  run: (start: Start) => Promise<string>
}

/** A module that needs a missing feature. */
export interface OpenModule extends Description {
  /** The missing feature. */
  open: string
}

export type Module = RunModule | OpenModule

export function isOpen (module: Module): module is OpenModule {
  return 'open' in module
}

export function titleOf ({ number, id, variant }: Module): string {
  return `${number} ${id}${variant === undefined ? '' : ` (${variant})`}`
}
