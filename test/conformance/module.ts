import type { Start } from './party.ts'

/** A module of the OpenID Foundation's conformance suite for relying parties. */
interface Description {
  /** `C1` … `C58` in the table of security.md, or `extra`. */
  number: string
  /** The module's name in the suite. */
  id: string
  /** The test plan it is taken from. */
  plan: string
  /** Tells it from another entry with the same id. */
  variant?: string
  /** What the provider does. */
  provider: string
  /** What the relying party has to do. */
  required: string
}

/** One that is run: says what happened, or throws when that is not what is required. */
export interface RunModule extends Description {
  run: (start: Start) => Promise<string>
}

/** One that needs a feature which does not exist. */
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
