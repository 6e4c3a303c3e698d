import { randomBytes } from 'node:crypto'
import { xsalsa20poly1305 } from '@noble/ciphers/salsa.js'

/** The secretbox of NaCl (XSalsa20-Poly1305), in JavaScript: the same bytes as libsodium's `crypto_secretbox_easy`. */
export interface Secretbox {
  /** Encrypts with the first key. The result is the encrypted text and the nonce, as base64 with a dot between them. */
  seal: (text: string) => string
  /** Returns `null` unless one of the keys opens the value. */
  open: (value: string) => OpenedBox | null
}

export interface OpenedBox {
  text: string
  /** Whether it was not the first key. */
  rotated: boolean
}

const NONCE_LENGTH = 24 // bytes

export function createSecretbox (keys: readonly Buffer[]): Secretbox {
  function decrypt (key: Buffer, nonce: Buffer, encrypted: Buffer): string | null {
    try {
      return Buffer.from(xsalsa20poly1305(key, nonce).decrypt(encrypted)).toString()
    } catch {
      return null
    }
  }

  return {
    seal (text) {
      const nonce = randomBytes(NONCE_LENGTH)
      const encrypted = xsalsa20poly1305(keys[0] as Buffer, nonce).encrypt(Buffer.from(text))
      return `${Buffer.from(encrypted).toString('base64')}.${nonce.toString('base64')}`
    },

    open (value) {
      const [encrypted, nonce] = value.split('.').map((part) => Buffer.from(part, 'base64')) as [Buffer, Buffer]
      for (const [index, key] of keys.entries()) {
        const text = decrypt(key, nonce, encrypted)
        if (text !== null) return { text, rotated: index > 0 }
      }
      return null
    }
  }
}
