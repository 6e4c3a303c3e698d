import { AUDIENCE } from '../clients.ts'
import type { OidcOptions } from '../../index.ts'

export const options = { bearer: { audience: AUDIENCE, strictType: false } } satisfies Partial<OidcOptions>
