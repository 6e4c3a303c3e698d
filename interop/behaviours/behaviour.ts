import type { Lab } from '../lab.ts'

/** One row of the matrix. It throws when the provider and the plugin do not do together what they should. */
export type Behaviour = (lab: Lab) => Promise<void>
