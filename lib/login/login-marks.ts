import { equal } from '../util/crypto.ts'
import { ID_LENGTH } from './pending-login.ts'
import type { Sealer } from '../sealer.ts'
import type { PendingLogin } from './pending-login.ts'

/** The values that only this application can make for a login. */
export type LoginSecrets = Pick<PendingLogin, 'nonce' | 'codeVerifier'>

export interface Mark {
  /** The login that the browser began. */
  id: string
  isUsed: boolean
  /** Whether it waits for an answer to `prompt=none`. */
  isSilent: boolean
  secrets: LoginSecrets
}

/**
 * The value of a login cookie: it proves that this browser began the login. It is short, so that the cookies of many
 * tabs fit, and it is good in its own slot only.
 */
export interface LoginMarks {
  waiting: (slot: string, id: string, isSilent: boolean) => string
  used: (slot: string, id: string) => string
  /** Returns `null` unless one of the keys made the value. */
  open: (slot: string, value: string) => Mark | null
  secrets: (id: string) => LoginSecrets
}

/** The length of a mark, in characters. */
export const MARK_LENGTH = ID_LENGTH + 22
const KINDS = ['waiting', 'silent', 'used'] as const

export function createLoginMarks ({ digests }: Pick<Sealer, 'digests'>): LoginMarks {
  const tagsOf = (kind: typeof KINDS[number], slot: string, id: string): string[] =>
    digests(`${kind}\n${slot}\n${id}`).map((digest) => digest.toString('base64url', 0, 16))

  // Each with 128 random bits or more (RFC 9700, section 2.1), for all who do not have the key.
  function secretsOf (id: string, key: number): LoginSecrets {
    const [nonce, verifier] = ['nonce', 'code_verifier'].map((name) => digests(`${name}\n${id}`)[key] as Buffer)
    return {
      nonce: (nonce as Buffer).toString('base64url', 0, 16),
      codeVerifier: (verifier as Buffer).toString('base64url')
    }
  }

  return {
    waiting: (slot, id, isSilent) => id + (tagsOf(isSilent ? 'silent' : 'waiting', slot, id)[0] as string),
    used: (slot, id) => id + (tagsOf('used', slot, id)[0] as string),
    secrets: (id) => secretsOf(id, 0),

    open (slot, value) {
      const [id, tag] = [value.slice(0, ID_LENGTH), value.slice(ID_LENGTH)]
      for (const kind of KINDS) {
        // The key that made the mark also made the nonce and the verifier.
        const key = tagsOf(kind, slot, id).findIndex((expected) => equal(expected, tag))
        if (key !== -1) return { id, isUsed: kind === 'used', isSilent: kind === 'silent', secrets: secretsOf(id, key) }
      }
      return null
    }
  }
}
