import type { Claims } from '../provider/token-options.ts'

/** Returns changed claims. */
export type ClaimsChange = (claims: Claims) => Claims

export const set = (values: Claims): ClaimsChange => (claims) => ({ ...claims, ...values })
export const append = (name: string, text: string): ClaimsChange => (claims) =>
  ({ ...claims, [name]: `${claims[name]}${text}` })
export const move = (name: string, seconds: number): ClaimsChange => (claims) =>
  ({ ...claims, [name]: Number(claims[name]) + seconds })
export const shift = (seconds: number): ClaimsChange => (claims) =>
  ['iat', 'exp', 'auth_time'].reduce((value, name) => move(name, seconds)(value), claims)
export const drop = (name: string): ClaimsChange => set({ [name]: undefined })
