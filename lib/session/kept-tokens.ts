import { createBoundedMap } from '../util/bounded-map.ts'
import { sha256 } from '../util/crypto.ts'
import { now } from '../util/time.ts'
import type { Provider } from '../provider/provider.ts'
import type { TokenSet } from '../provider/token-request.ts'
import type { EntryName, SealedStore } from '../store/sealed-store.ts'
import type { SessionTokens } from './session.ts'

/**
 * New tokens whose response the browser may not have got: it closed the tab, or the application has replied without
 * Fastify. The browser then sends the tokens from before again, and a provider that rotates refresh tokens would take
 * the old one for a stolen one. The name of an entry is a hash of the tokens from before, so only a request that has
 * the browser's sealed cookie finds it, and only after its session was found to be live.
 */
export interface KeptTokens {
  /**
   * The tokens that came after these: `fresh` can be used, `last` can be refreshed. A browser that got no response for
   * a while sends tokens that were refreshed several times since.
   */
  follow: (provider: Provider, tokens: SessionTokens) => Promise<{ fresh?: TokenSet, last: SessionTokens }>
  /** Keeps the new tokens, if the provider has replaced the refresh token. Throws FST_OIDC_STORE_UNAVAILABLE. */
  keep: (provider: Provider, tokens: SessionTokens, fresh: TokenSet) => Promise<void>
  /** The name under which the new tokens are kept. A browser that has them sends it back: see `received`. */
  nameOf: (provider: Provider, tokens: SessionTokens, fresh: TokenSet) => string | undefined
  /** A request came with the new tokens. They are kept for one more minute, for requests that are under way. */
  received: (name: string) => Promise<void>
  /** Removes what came after these tokens, and returns the newest. For a logout. */
  take: (provider: Provider, tokens: SessionTokens) => Promise<SessionTokens>
}

interface Kept {
  tokenSet: TokenSet
  /** Whether a request came with the new tokens. */
  isReceived: boolean
}

/** Where tokens are kept. `expiresAt` is in seconds since the epoch. */
interface KeptPlace {
  get: (name: string) => Promise<Kept | undefined>
  set: (name: string, kept: Kept, expiresAt: number) => Promise<void>
  remove: (name: string) => Promise<unknown>
}

/** How many one process keeps, if there is no store. It forgets the oldest first. */
const MAX_KEPT = 10_000
/** In seconds. */
const KEPT_FOR = 3600
/** How long requests with the old tokens may be under way when the new ones have come, in seconds. */
const UNDER_WAY = 60
/** How many refreshes to follow. Two are the rule: the first entry always leads to the newest tokens. */
const MAX_STEPS = 20

function keptInProcess (): KeptPlace {
  const entries = createBoundedMap<Kept>(MAX_KEPT)
  return {
    get: async (name) => entries.get(name),
    set: async (name, kept, expiresAt) => entries.set(name, kept, expiresAt),
    remove: async (name) => entries.delete(name)
  }
}

function keptInStore (store: SealedStore): KeptPlace {
  const entry = (name: string): EntryName => ['kept', name]
  return {
    get: async (name) => (await store.get<Kept>(entry(name)))?.content,
    set: async (name, kept, expiresAt) => await store.set(entry(name), kept, expiresAt),
    remove: async (name) => await store.remove(entry(name))
  }
}

/** Identifies tokens. A provider that does not rotate gives the same refresh token with other access tokens. */
export function digestOf (
  { id }: Provider,
  { access_token: accessToken, refresh_token: refreshToken }: SessionTokens
): string {
  return sha256(JSON.stringify([id, accessToken, refreshToken]), 'base64')
}

/** In 128 bits: the cookies contain it. */
function keyOf (provider: Provider, tokens: SessionTokens): string {
  return digestOf(provider, tokens).slice(0, 22)
}

/** Keeps tokens in the store, or in this process if there is none. */
export function createKeptTokens (store: SealedStore | undefined): KeptTokens {
  const { get, set, remove } = store === undefined ? keptInProcess() : keptInStore(store)
  const received = createBoundedMap<true>(MAX_KEPT)

  return {
    async follow (provider, tokens) {
      let last = tokens
      for (let step = 0; step < MAX_STEPS; step++) {
        const kept = await get(keyOf(provider, last))
        if (kept === undefined) break
        if (!isSpent(kept.tokenSet)) return { fresh: kept.tokenSet, last }
        last = { ...last, ...kept.tokenSet.tokens }
      }
      return { last }
    },

    async keep (provider, tokens, fresh) {
      if (!isRotated(tokens, fresh)) return
      await set(keyOf(provider, tokens), { tokenSet: fresh, isReceived: false }, now() + KEPT_FOR)
    },

    nameOf: (provider, tokens, fresh) => isRotated(tokens, fresh) ? keyOf(provider, tokens) : undefined,

    async received (name) {
      if (received.get(name) === true) return
      received.set(name, true, now() + KEPT_FOR)
      const kept = await get(name).catch(() => undefined)
      if (kept === undefined || kept.isReceived) return
      await set(name, { ...kept, isReceived: true }, now() + UNDER_WAY).catch(() => {})
    },

    async take (provider, tokens) {
      let last = tokens
      for (let step = 0; step < MAX_STEPS; step++) {
        const name = keyOf(provider, last)
        const kept = await get(name)
        if (kept === undefined) break
        await remove(name)
        last = { ...last, ...kept.tokenSet.tokens }
      }
      return last
    }
  }
}

async function keepNothing (): Promise<void> {}

/** For sessions and grants in the store: the new tokens are saved there, and browsers do not get them. */
export const nothingKept: KeptTokens = {
  follow: async (_provider, tokens) => ({ last: tokens }),
  keep: keepNothing,
  nameOf: () => undefined,
  received: keepNothing,
  take: async (_provider, tokens) => tokens
}

function isRotated ({ refresh_token: before }: SessionTokens, { tokens: { refresh_token: next } }: TokenSet): boolean {
  return next !== before
}

function isSpent ({ tokens: { expires_at: expiresAt = Infinity } }: TokenSet): boolean {
  return expiresAt <= now()
}
