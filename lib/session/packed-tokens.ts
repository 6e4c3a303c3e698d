import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { SessionTokens } from './session.ts'

/** The tokens of a session, in cookies of their own: they are opened only when they are needed. */
export interface SealedTokens {
  id: string
  revision: number
  tokens: SessionTokens
}

/**
 * A segment of a token, between two dots: the length of the bytes that it is base64url of, negative when they are
 * compressed, or the segment itself.
 */
type Segment = number | string

interface PackedToken {
  segments: Segment[]
  parts: Buffer[]
}

/** What was packed already: the same tokens may be tried in several selections. */
export type PackedTokens = Map<string, PackedToken>

const DOT = '.'
/** Ends the JSON, which never contains it. */
const NUL = Buffer.alloc(1)
const OPENING_BRACE = 0x7b
/** What is smaller is not worth the time, and what is larger is not made of compressed bytes either. In bytes. */
const COMPRESSIBLE = { min: 200, max: 32_768 }
/** With a small window, compressing takes less than half of the time, and gives as small a result for a token. */
const DEFLATE = { windowBits: 12, memLevel: 4 }

/**
 * The content as JSON, and after it the tokens as bytes: these are a quarter smaller than their base64url. The JSON in
 * a token is compressed by itself: if two tokens were compressed together, the length of the cookies would tell
 * whether a part of one is in the other.
 */
export function packTokens (content: SealedTokens, packed: PackedTokens = new Map()): Buffer {
  const parts: Buffer[] = []
  const tokens = Object.entries(content.tokens).map(([name, value]) => {
    if (!isToken(name, value)) return [name, value]
    const token = packed.get(value) ?? packToken(value)
    packed.set(value, token)
    parts.push(...token.parts)
    return [name, token.segments]
  })
  const json = JSON.stringify({ ...content, tokens: Object.fromEntries(tokens) })
  return Buffer.concat([Buffer.from(json), NUL, ...parts])
}

/** The content again. A token that was compressed is decompressed when it is read: most requests need one of them. */
export function unpackTokens (bytes: Buffer): SealedTokens {
  const end = bytes.indexOf(NUL)
  const content = JSON.parse(bytes.toString('utf8', 0, end)) as SealedTokens
  let rest = bytes.subarray(end + NUL.length)
  for (const [name, segments] of Object.entries(content.tokens) as Array<[string, unknown]>) {
    if (!isPacked(name, segments)) continue
    const parts = rest
    rest = rest.subarray(segments.reduce<number>((sum, segment) => sum + lengthOf(segment), 0))
    let token: string | undefined
    const get = (): string => (token ??= unpackToken(segments, parts))
    const property = segments.some(isCompressed) ? { get } : { value: get() }
    Object.defineProperty(content.tokens, name, { ...property, enumerable: true })
  }
  return content
}

function isToken (name: string, value: unknown): value is string {
  return name.endsWith('_token') && typeof value === 'string'
}

function isPacked (name: string, value: unknown): value is Segment[] {
  return name.endsWith('_token') && Array.isArray(value)
}

function packToken (token: string): PackedToken {
  const parts: Buffer[] = []
  const segments = token.split(DOT).map((segment) => {
    const bytes = Buffer.from(segment, 'base64url')
    // There are several texts for the same bytes: only the one that comes back is not kept as it is.
    if (bytes.toString('base64url') !== segment) return segment
    const compressed = compress(bytes)
    parts.push(compressed ?? bytes)
    return compressed === undefined ? bytes.length : -compressed.length
  })
  return { segments, parts }
}

function compress (bytes: Buffer): Buffer | undefined {
  const isWorthIt = bytes[0] === OPENING_BRACE && bytes.length >= COMPRESSIBLE.min && bytes.length <= COMPRESSIBLE.max
  const compressed = isWorthIt ? deflateRawSync(bytes, DEFLATE) : bytes
  return compressed.length < bytes.length ? compressed : undefined
}

function isCompressed (segment: Segment): boolean {
  return typeof segment === 'number' && segment < 0
}

function lengthOf (segment: Segment): number {
  return typeof segment === 'string' ? 0 : Math.abs(segment)
}

function unpackToken (segments: Segment[], parts: Buffer): string {
  let at = 0
  return segments.map((segment) => {
    if (typeof segment === 'string') return segment
    const bytes = parts.subarray(at, at += lengthOf(segment))
    const raw = isCompressed(segment) ? inflateRawSync(bytes, { maxOutputLength: COMPRESSIBLE.max }) : bytes
    return raw.toString('base64url')
  }).join(DOT)
}
