import { randomBytes } from 'node:crypto'
import { append, drop, set } from './claims.ts'
import type { Fault } from '../provider/types.ts'
import type { ClaimsChange } from './claims.ts'

const metadata = (change: ClaimsChange): Fault => ({ on: 'metadata', metadata: change })

const marked = (name: string): ClaimsChange => append(name, `?from=${randomBytes(6).toString('hex')}`)

export const metadataFaults = {
  // oidcc-client-test-…: `requests` shows by the marked URLs whether the client uses the metadata
  'discovery-openid-config': metadata((document) =>
    ['authorization_endpoint', 'token_endpoint', 'userinfo_endpoint', 'end_session_endpoint'].map(marked)
      .reduce((value, mark) => mark(value), document)),
  'discovery-jwks-uri-keys': metadata(marked('jwks_uri')),
  'discovery-issuer-mismatch': metadata(append('issuer', 'INVALID')),

  'metadata-issuer-trailing-slash': metadata(append('issuer', '/')),
  'metadata-without-issuer': metadata(drop('issuer')),
  'metadata-without-jwks-uri': metadata(drop('jwks_uri')),
  'metadata-without-token-endpoint': metadata(drop('token_endpoint')),
  'metadata-without-end-session-endpoint': metadata(drop('end_session_endpoint')),
  'metadata-without-pkce': metadata(drop('code_challenge_methods_supported')),
  'metadata-insecure-token-endpoint': metadata(set({ token_endpoint: 'http://insecure.example/token' })),
  'metadata-endpoint-on-another-host': metadata(set({ token_endpoint: 'https://other.example/token' })),
  'metadata-javascript-endpoint': metadata(set({ authorization_endpoint: 'javascript:alert(1)//' })),
  'metadata-endpoint-with-credentials': metadata(set({ token_endpoint: 'https://user:password@evil.example/token' })),
  'metadata-endpoint-not-a-string': metadata(set({ token_endpoint: ['https://evil.example/token'] })),
  'metadata-huge-array': metadata(set({ scopes_supported: new Array<string>(100_000).fill('scope') }))
} satisfies Record<string, Fault>
