import type { Client } from './clients.ts'

/** The address of the application of a client. */
export const baseUrlOf = ({ port }: Client): string => `http://127.0.0.1:${port}`
