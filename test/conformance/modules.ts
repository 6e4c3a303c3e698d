import { basicModules, formPostModules } from './basic.ts'
import { comprehensiveModules } from './comprehensive.ts'
import { configModules } from './config.ts'
import { fapiModules } from './fapi.ts'
import { logoutModules } from './logout.ts'
import { openModules } from './open.ts'
import { refreshModules } from './refresh.ts'
import type { Module } from './module.ts'

/** All modules, including the open ones, sorted by number. */
export const modules: readonly Module[] = [
  ...basicModules, ...formPostModules, ...comprehensiveModules, ...configModules, ...refreshModules, ...logoutModules,
  ...fapiModules, ...openModules
].sort((a, b) => position(a) - position(b))

function position ({ number }: Module): number {
  return /^C\d+$/.test(number) ? Number(number.slice(1)) : 1000
}
