import { applicationFaults } from './application-faults.ts'
import { postgresFaults } from './postgres-faults.ts'
import { providerFaults } from './provider-faults.ts'
import { redisFaults } from './redis-faults.ts'
import { sqliteFaults } from './sqlite-faults.ts'
import type { Fault } from './fault.ts'

export const FAULTS: readonly Fault[] = [
  ...redisFaults, ...postgresFaults, ...sqliteFaults, ...providerFaults, ...applicationFaults
]
