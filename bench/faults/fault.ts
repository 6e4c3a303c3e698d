import type { ProviderOptions } from '../../lib/testing/index.ts'
import type { Teardown } from '../../test/support/app.ts'
import type { ApplicationOptions } from './application.ts'
import type { StreamName } from './streams.ts'
import type { World } from './world.ts'

/** One row of the table. */
export interface Fault {
  /** For `--only`. */
  name: string
  /** The first cell of the row. */
  title: string
  /** Why it cannot be caused on this computer, or `false`. */
  skip: string | false
  provider?: ProviderOptions
  /** Starts the servers. They end with the fault. */
  prepare: (t: Teardown) => Promise<Cause> | Cause
}

/** How a fault is caused, and what it may do. */
export interface Cause {
  /** What the application needs. */
  application?: Partial<ApplicationOptions>
  /** How many processes the application has. Default: 1. */
  processes?: number
  begin: (world: World) => Promise<void> | void
  /** Without it, the plugin recovers while the fault goes on. */
  end?: (world: World) => Promise<void> | void
  /** What happens beside pages, logins and logouts. */
  also?: readonly StreamName[]
  /**
   * Why a user may be logged out: the sessions in the store are lost, with the marks of logouts, or sessions do not
   * count while the fault lasts.
   */
  sessions?: 'are lost' | 'do not count'
  /** The status with which logins may be refused, beside 503. */
  refusesLoginsWith?: number
  /** A process dies: what was on its way is not answered. */
  breaksConnections?: boolean
}
