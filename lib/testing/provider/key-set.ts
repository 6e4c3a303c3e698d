import { json } from './answer.ts'
import { change } from './fault-effects.ts'
import { currentKey, foreignKey, keySet, publicJwk } from './keys.ts'
import type { Answer } from './answer.ts'
import type { Context, Exchange } from './context.ts'

/** The public keys. From the start, they include keys for the algorithms of all clients. */
export const publishedKeys = (context: Context) => {
  const algs = context.clients.flatMap(({ id_token_signed_response_alg, userinfo_signed_response_alg }) =>
    [id_token_signed_response_alg, userinfo_signed_response_alg])
  for (const alg of new Set(['RS256' as const, ...algs])) {
    if (alg && alg !== 'HS256') currentKey(context.keys, alg)
  }
  return keySet(context.keys)
}

export const jwks = ({ context, faults }: Exchange): Answer =>
  json(faults.reduce((value, fault) => change(value, fault.jwks), publishedKeys(context)))

export const attacker = ({ context }: Exchange): Answer =>
  json({ keys: [...context.keys.foreign.keys()].map((alg) => publicJwk(foreignKey(context.keys, alg))) })
