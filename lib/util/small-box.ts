import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'

/**
 * Seals JSON values in few bytes: compressed, then encrypted with AES-256-GCM; one character for each byte. It is for
 * values that stay in this process, because the length of a compressed value tells about its content.
 */
export interface SmallBox {
  /** Encrypts with the first key. The value opens with the same name only. */
  seal: (name: string, content: unknown) => string
  /** Returns `null` unless `seal` made the value under this name with one of the keys. */
  open: (name: string, value: string) => OpenedSmall | null
}

export interface OpenedSmall {
  content: unknown
  /** Whether it was not the first key. */
  rotated: boolean
}

const ALGORITHM = 'aes-256-gcm'
const NONCE_LENGTH = 12 // bytes, as SP 800-38D recommends
const TAG_LENGTH = 16

/**
 * What most sessions contain: such text takes no room in each of them. It may change, because no value outlives the
 * process.
 */
const DICTIONARY = Buffer.from([
  'eyJhbGciOiJSUzI1NiIsInR5cCIgOiAiSldUIiwia2lkIiA6ICI', 'eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6I',
  '{"content":{"issuedBy":"https://', '","session":{"scopes":["openid","profile","email"],"sid":"', '","authTime":',
  ',"provider":"default","id":"', '","loginTime":', ',"expiresAt":', '},"sub":"', '","loginAt":',
  ',"tokens":{"access_token":"', '","refresh_token":"', '","id_token":"', '","token_type":"bearer","expires_at":',
  ',"scope":"openid profile email offline_access"}}}'
].join(''))

const COMPRESSION = { dictionary: DICTIONARY }

const inflate = (bytes: Buffer): string => inflateRawSync(bytes, COMPRESSION).toString()

export function createSmallBox (keys: readonly Buffer[]): SmallBox {
  return {
    seal (name, content) {
      const text = deflateRawSync(JSON.stringify({ content }), COMPRESSION)
      const nonce = randomBytes(NONCE_LENGTH)
      const cipher = createCipheriv(ALGORITHM, keys[0] as Buffer, nonce, { authTagLength: TAG_LENGTH })
      cipher.setAAD(Buffer.from(name))
      return Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]).toString('latin1')
    },

    open (name, value) {
      const bytes = Buffer.from(value, 'latin1')
      for (const [index, key] of keys.entries()) {
        const text = decrypt(key, name, bytes)
        if (text === null) continue
        const { content } = JSON.parse(inflate(text)) as { content?: unknown }
        return { content, rotated: index > 0 }
      }
      return null
    }
  }
}

function decrypt (key: Buffer, name: string, bytes: Buffer): Buffer | null {
  try {
    const decipher = createDecipheriv(ALGORITHM, key, bytes.subarray(0, NONCE_LENGTH), { authTagLength: TAG_LENGTH })
    decipher.setAAD(Buffer.from(name)).setAuthTag(bytes.subarray(-TAG_LENGTH))
    return Buffer.concat([decipher.update(bytes.subarray(NONCE_LENGTH, -TAG_LENGTH)), decipher.final()])
  } catch {
    return null
  }
}
