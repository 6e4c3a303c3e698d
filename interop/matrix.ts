import { setTimeout as delay } from 'node:timers/promises'
import { behaviours } from './behaviours/index.ts'
import type { BehaviourName } from './behaviours/index.ts'
import { createLab } from './lab.ts'
import type { Metadata } from './lab.ts'
import type { InteropProvider } from './provider.ts'

/** `no`: the provider cannot do it, as its folder says. */
export interface Cell {
  provider: string
  behaviour: string
  verdict: 'ok' | 'no' | 'FAILED'
  text: string
  seconds: number
}

const WAIT = 240
const TIME_LIMIT = 90

/** Waits for a provider that is starting. One that is not ready may take a request and never answer it. */
export async function fetchMetadata (issuer: string): Promise<Metadata> {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
  let cause: unknown
  for (const end = Date.now() + WAIT * 1000; Date.now() < end; await delay(1000)) {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(5000) })
      if (response.ok) return await response.json() as Metadata
      cause = `status ${response.status}`
    } catch (error) {
      cause = error
    }
  }
  throw new Error(`no metadata at ${url} in ${WAIT} seconds: ${String(cause)}`)
}

export async function runProvider (
  provider: InteropProvider,
  metadata: Metadata,
  names: BehaviourName[],
  report: (cell: Cell) => void
): Promise<Cell[]> {
  const cells: Cell[] = []
  for (const name of names) {
    const cell = await runCell(provider, metadata, name)
    report(cell)
    cells.push(cell)
  }
  return cells
}

async function runCell (provider: InteropProvider, metadata: Metadata, behaviour: BehaviourName): Promise<Cell> {
  const began = Date.now()
  const failure = await failureOf(provider, metadata, behaviour)
  const seconds = (Date.now() - began) / 1000
  return { provider: provider.name, behaviour, seconds, ...judge(failure, provider, behaviour) }
}

/** An oddity must stay true: a cell that works although it is said not to is a failure. */
function judge (
  failure: string | undefined,
  { oddities }: InteropProvider,
  behaviour: BehaviourName
): Pick<Cell, 'verdict' | 'text'> {
  const expected = oddities[behaviour]
  if (failure === undefined) {
    const text = `it works: remove "${expected?.why}" from provider.ts`
    return expected === undefined ? { verdict: 'ok', text: '' } : { verdict: 'FAILED', text }
  }
  if (expected?.shows.test(failure) !== true) return { verdict: 'FAILED', text: failure }
  return { verdict: 'no', text: expected.why }
}

async function failureOf (
  provider: InteropProvider,
  metadata: Metadata,
  behaviour: BehaviourName
): Promise<string | undefined> {
  const lab = createLab(provider, metadata, behaviour)
  const limit = new AbortController()
  try {
    const tooLong = delay(TIME_LIMIT * 1000, undefined, { signal: limit.signal })
      .then(() => { throw new Error(`it took more than ${TIME_LIMIT} seconds`) })
    await Promise.race([behaviours[behaviour](lab), tooLong])
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  } finally {
    limit.abort()
    await lab.close()
  }
}
