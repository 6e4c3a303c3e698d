import type { OpenModule } from './module.ts'

const id = 'oidcc-client-test'
const dynamic = 'oidcc-client-dynamic-certification-test-plan'
const comprehensive = 'oidcc-client-test-plan'
const fapi = 'fapi2-security-profile-final-client-test-plan'
const fapiId = 'fapi2-security-profile-final-client-test'

/** Modules that do not run, because the feature that they test is missing. */
export const openModules: OpenModule[] = [
  {
    number: 'C37',
    id: `${id}-session-management`,
    plan: 'oidcc-client-rp-session-management-rp-basic',
    provider: 'session_state and a check_session_iframe',
    required: 'notice the change',
    open: 'session management'
  },
  {
    number: 'C39',
    id: `${fapiId}-happy-path`,
    plan: fapi,
    provider: 'PAR, DPoP with a nonce, decoy keys',
    required: 'log in, call the resource',
    open: 'pushed authorization requests and DPoP'
  },
  {
    number: 'C40',
    id: `${fapiId}-happy-path-no-dpop-nonce`,
    plan: fapi,
    provider: 'PAR, DPoP without a nonce',
    required: 'log in, call the resource',
    open: 'pushed authorization requests and DPoP'
  },
  {
    number: 'C41',
    id: `${fapiId}-discovery-issuer-mismatch`,
    plan: fapi,
    provider: 'another issuer in the metadata of a FAPI provider',
    required: 'stop',
    open: 'pushed authorization requests and DPoP (the check itself is C17)'
  },
  {
    number: 'C55',
    id: `${fapiId}-rs-dpop-auth-scheme-case-insensitivity`,
    plan: fapi,
    provider: 'a DPoP challenge in different letter case',
    required: 'try again with the nonce',
    open: 'DPoP'
  },
  {
    number: 'C57',
    id: 'fapi2-security-profile-final-client-refresh-token-test',
    plan: fapi,
    provider: 'refuses the access token until it was refreshed twice',
    required: 'refresh twice, keep the rotated refresh token',
    open: 'a refresh after a 401 of a resource (FAPI profiles)'
  },
  ...[
    'without-iss-fails', 'with-invalid-iss-fails', 'without-aud-fails', 'with-invalid-aud-fails',
    'without-exp-fails', 'with-expired-exp-fails', 'with-invalid-sig-fails', 'signature-is-not-none'
  ].map((name) => ({
    number: 'C58',
    id: `${fapiId}-ensure-jarm-${name}`,
    plan: 'fapi2-message-signing-final-client-test-plan',
    provider: 'a signed response that is wrong',
    required: 'reject',
    open: 'JARM'
  })),
  {
    number: 'extra',
    id: `${id}-userinfo-bearer-body`,
    plan: comprehensive,
    provider: 'accepts the access token only in the form',
    required: 'send it there',
    open: 'UserInfo with the token in a form'
  },
  {
    number: 'extra',
    id: `${id}-aggregated-claims`,
    plan: comprehensive,
    provider: 'claims of another provider, as a JWT',
    required: 'read them',
    open: 'aggregated claims'
  },
  {
    number: 'extra',
    id: `${id}-distributed-claims`,
    plan: comprehensive,
    provider: 'claims at another provider',
    required: 'fetch them',
    open: 'distributed claims'
  },
  {
    number: 'extra',
    id: `${id}-discovery-webfinger-acct`,
    plan: dynamic,
    provider: 'answers WebFinger for an account',
    required: 'find the issuer',
    open: 'WebFinger'
  },
  {
    number: 'extra',
    id: `${id}-discovery-webfinger-url`,
    plan: dynamic,
    provider: 'answers WebFinger for a URL',
    required: 'find the issuer',
    open: 'WebFinger'
  },
  {
    number: 'extra',
    id: `${id}-dynamic-registration`,
    plan: dynamic,
    provider: 'registers clients',
    required: 'register',
    open: 'dynamic client registration'
  },
  {
    number: 'extra',
    id: `${id}-request-uri-signed-rs256`,
    plan: dynamic,
    provider: 'fetches a signed request object',
    required: 'send request_uri',
    open: 'request objects'
  },
  {
    number: 'extra',
    id: `${id}-request-uri-signed-none`,
    plan: dynamic,
    provider: 'fetches an unsigned request object',
    required: 'send request_uri',
    open: 'request objects'
  }
]
