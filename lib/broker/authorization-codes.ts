import { randomBytes } from 'node:crypto'
import { demand, oauthError } from '../provider/oauth-error.ts'
import { equal, sha256 } from '../util/crypto.ts'
import { now } from '../util/time.ts'
import type { NativeLogin } from '../login/pending-login.ts'
import type { Sealer } from '../sealer.ts'
import type { EntryName, SealedStore } from '../store/sealed-store.ts'
import type { Broker, Subject } from './broker.ts'
import type { Issued } from './token-response.ts'

/** The login that an authorization code stands for. */
export interface CodeContent extends Omit<Subject, 'provider' | 'clientId'> {
  native: NativeLogin
  provider: string
  issuedBy: string
}

/** What a client sends with a code. */
export interface SentCode {
  code: string
  redirectUri: string | undefined
  codeVerifier: string | undefined
  clientId: string | undefined
}

/** The authorization codes of native applications. */
export interface AuthorizationCodes {
  create: (content: CodeContent) => Promise<string>
  /** The tokens for a code. A code that is used again ends the grant of its tokens. Throws FST_OIDC_GRANT. */
  redeem: (sent: SentCode, issue: (content: CodeContent) => Promise<Issued>) => Promise<Issued>
}

export interface AuthorizationCodesParts {
  store: SealedStore
  sealer: Sealer
  broker: Pick<Broker, 'end'>
}

/** How long a code can be used, in seconds. */
const CODE_LIFETIME = 60
/** How long a used code is remembered, in seconds. Its second use ends the grant (RFC 6749, section 4.1.2). */
const USED_LIFETIME = 600

const codeName = (id: string): EntryName => ['code', id]
const usedName = (id: string): EntryName => ['code-used', id]

export function createAuthorizationCodes ({ store, sealer, broker }: AuthorizationCodesParts): AuthorizationCodes {
  /** Takes the content of a code; `null` when it was taken before, or has expired. */
  async function take (id: string): Promise<CodeContent | null> {
    const found = await store.get<CodeContent>(codeName(id))
    return found !== null && (await store.remove(codeName(id))) ? found.content : null
  }

  async function endReused (id: string): Promise<never> {
    const isFirst = (await store.create(usedName(id), null, now() + USED_LIFETIME)) !== null
    const used = isFirst ? null : await store.get<string | null>(usedName(id))
    return await endGrant(used?.content ?? null)
  }

  async function endGrant (grant: string | null): Promise<never> {
    if (grant !== null) await broker.end(grant)
    throw oauthError('invalid_grant', 'The code was used before, or has expired.')
  }

  return {
    async create (content) {
      const id = randomBytes(16).toString('base64url')
      await store.set(codeName(id), content, now() + CODE_LIFETIME)
      return sealer.seal('code', id)
    },

    async redeem (sent, issue) {
      const id = sealer.open('code', sent.code)?.content as string | undefined
      demand(id !== undefined, 'invalid_grant', 'The code is not valid.')
      const content = await take(id)
      if (content === null) return await endReused(id)
      checkSent(sent, content.native)
      const issued = await issue(content)
      // The second use may have come before this grant existed. Then the grant ends here.
      const isOnlyUse = (await store.create(usedName(id), issued.id, now() + USED_LIFETIME)) !== null
      return isOnlyUse ? issued : await endGrant(issued.id)
    }
  }
}

function checkSent ({ redirectUri, clientId, codeVerifier }: SentCode, native: NativeLogin): void {
  demand(native.redirectUri === redirectUri, 'invalid_grant', 'The redirect_uri is not that of the login.')
  demand(native.clientId === clientId, 'invalid_grant', 'The code is of another client.')
  const isVerified = codeVerifier !== undefined && equal(sha256(codeVerifier), native.codeChallenge)
  demand(isVerified, 'invalid_grant', 'The code_verifier does not fit.')
}
