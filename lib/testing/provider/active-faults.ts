import type { Fault, ProviderRequest } from './types.ts'

/** A fault that is switched on. */
export interface ActiveFault {
  fault: Fault
  /** For how many more requests. */
  left: number
}

/** Returns the faults that apply to a request, and counts the request. */
export const takeFaults = (active: ActiveFault[], request: ProviderRequest): Fault[] => {
  const hit = active.filter(({ fault, left }) =>
    left > 0 && fault.on === request.endpoint && (fault.when?.(request) ?? true))
  for (const entry of hit) entry.left--
  return hit.map(({ fault }) => fault)
}
