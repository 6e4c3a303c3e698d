import { randomBytes } from 'node:crypto'
import t from 'tap'
import { createTokenCache, freeze } from '../../lib/util/token-cache.ts'
import { stopClock } from '../support/app.ts'

/** A token with a random end, as a signature or a nonce is. */
const createToken = (start = 'start'): string => `${start}.${randomBytes(30).toString('base64url')}`

t.test('a value is stored when its token comes for the second time', async (t) => {
  const cache = createTokenCache<number>(10)
  const token = createToken()
  t.equal(cache.get(token), undefined)
  cache.add(token, 1)
  t.equal(cache.get(token), undefined, 'the first time takes no place')
  cache.add(token, 2)
  t.equal(cache.get(token), 2)
  cache.clear()
  t.equal(cache.get(token), undefined)
})

t.test('only the exact token finds its value', async (t) => {
  const cache = createTokenCache<number>(10)
  const token = createToken('one')
  for (const value of [1, 2]) cache.add(token, value)
  const forged = `two${token.slice(3)}`
  t.equal(forged.slice(-32), token.slice(-32))
  t.equal(cache.get(forged), undefined)
  t.equal(cache.get(token), 2)
})

t.test('a qualifier tells apart the values of one token', async (t) => {
  const cache = createTokenCache<string>(10)
  const token = createToken()
  cache.add(token, 'first sight')
  cache.add(token, 'plain')
  cache.add(token, 'of a', { qualifier: 'a' })
  cache.add(token, 'of b', { qualifier: 'b' })
  t.same(
    [cache.get(token), cache.get(token, 'a'), cache.get(token, 'b'), cache.get(token, 'c')],
    ['plain', 'of a', 'of b', undefined]
  )
})

t.test('a value is forgotten when it expires', async (t) => {
  const clock = stopClock(t)
  const cache = createTokenCache<number>(10)
  const token = createToken()
  const expiresAt = Date.now() / 1000 + 10
  for (const value of [1, 2]) cache.add(token, value, { expiresAt })
  clock.advance(9)
  t.equal(cache.get(token), 2)
  clock.advance(1)
  t.equal(cache.get(token), undefined)
})

t.test('a full cache drops its oldest value for a new one', async (t) => {
  const cache = createTokenCache<number>(3)
  const tokens = Array.from({ length: 3 }, () => createToken())
  for (const token of [...tokens, ...tokens]) cache.add(token, 1)
  t.same(tokens.map((token) => cache.get(token)), [1, 1, 1])
  const next = createToken()
  // A full cache admits a quarter of the tokens at random.
  for (let attempt = 0; attempt < 1000 && cache.get(next) === undefined; attempt++) cache.add(next, 2)
  t.equal(cache.get(next), 2)
  t.same(tokens.map((token) => cache.get(token)), [undefined, 1, 1])
})

t.test('a frozen value cannot be changed at any depth', async (t) => {
  const value = freeze({ list: [{ name: 'a' }], text: 'b', nothing: null })
  t.throws(() => { value.text = 'c' }, TypeError)
  t.throws(() => value.list.push({ name: 'd' }), TypeError)
  t.throws(() => { (value.list[0] as { name: string }).name = 'e' }, TypeError)
  t.same(value, { list: [{ name: 'a' }], text: 'b', nothing: null })
})
