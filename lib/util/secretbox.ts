import { randomBytes } from 'node:crypto'

/** The secretbox of NaCl (XSalsa20-Poly1305). */
export interface Secretbox {
  /** Encrypts with the first key. */
  seal: (bytes: Uint8Array) => SealedBox
  /** Returns `null` unless one of the keys opens the box. */
  open: (box: SealedBox) => OpenedBox | null
}

export interface SealedBox {
  nonce: Buffer
  encrypted: Buffer
}

export interface OpenedBox {
  bytes: Buffer
  /** Whether it was not the first key. */
  rotated: boolean
}

/** How a box is made. Both ways give the same bytes. */
export interface SecretboxCipher {
  encrypt: (key: Buffer, nonce: Buffer, bytes: Uint8Array) => Buffer
  /** Returns `null` when the key does not open it. */
  decrypt: (key: Buffer, nonce: Buffer, encrypted: Buffer) => Buffer | null
}

/** What is used of libsodium. */
export interface Sodium {
  crypto_secretbox_easy: (encrypted: Buffer, bytes: Uint8Array, nonce: Buffer, key: Buffer) => void
  crypto_secretbox_open_easy: (bytes: Buffer, encrypted: Buffer, nonce: Buffer, key: Buffer) => boolean
}

export const NONCE_LENGTH = 24 // bytes
const MAC_LENGTH = 16 // bytes

/** For platforms without the addon: only they load the library. */
export async function inJavaScript (): Promise<SecretboxCipher> {
  const { xsalsa20poly1305 } = await import('@noble/ciphers/salsa.js')
  return {
    encrypt: (key, nonce, bytes) => Buffer.from(xsalsa20poly1305(key, nonce).encrypt(bytes)),

    decrypt (key, nonce, encrypted) {
      try {
        return Buffer.from(xsalsa20poly1305(key, nonce).decrypt(encrypted))
      } catch {
        return null
      }
    }
  }
}

export function bySodium (sodium: Sodium): SecretboxCipher {
  return {
    encrypt (key, nonce, bytes) {
      const encrypted = Buffer.allocUnsafe(bytes.length + MAC_LENGTH)
      sodium.crypto_secretbox_easy(encrypted, bytes, nonce, key)
      return encrypted
    },

    decrypt (key, nonce, encrypted) {
      if (nonce.length !== NONCE_LENGTH || encrypted.length < MAC_LENGTH) return null
      const bytes = Buffer.allocUnsafe(encrypted.length - MAC_LENGTH)
      return sodium.crypto_secretbox_open_easy(bytes, encrypted, nonce, key) ? bytes : null
    }
  }
}

export function createSecretbox (keys: readonly Buffer[], { encrypt, decrypt }: SecretboxCipher): Secretbox {
  return {
    seal (bytes) {
      const nonce = randomBytes(NONCE_LENGTH)
      return { nonce, encrypted: encrypt(keys[0] as Buffer, nonce, bytes) }
    },

    open ({ nonce, encrypted }) {
      for (const [index, key] of keys.entries()) {
        const bytes = decrypt(key, nonce, encrypted)
        if (bytes !== null) return { bytes, rotated: index > 0 }
      }
      return null
    }
  }
}
