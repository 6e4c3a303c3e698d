/** The name of the only tenant, where the application has `resolveProvider`. */
export const TENANT = 'acme'
