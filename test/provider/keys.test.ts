import { X509Certificate, createPrivateKey, generateKeyPairSync, sign as signBytes } from 'node:crypto'
import { SignJWT } from 'jose'
import t from 'tap'
import { createKeySet } from '../../lib/provider/key-set.ts'
import { readKeys } from '../../lib/provider/keys.ts'
import { faults, testCertificate } from '../../lib/testing/index.ts'
import { buildApp, logIn, optionsFor, silentLog } from '../support/app.ts'
import { assertRefused, attempt, captureLog } from '../support/protocol.ts'
import { startedProvider } from '../support/started.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { KeyObject } from 'node:crypto'

t.setTimeout(120_000) // where other work shares the cores

const HEADERS = { 'content-type': 'application/json' }

const pair = (): { publicKey: KeyObject, privateKey: KeyObject } => generateKeyPairSync('rsa', { modulusLength: 2048 })
const right = pair()
const wrong = Array.from({ length: 5 }, pair)
const jwkOf = (key: KeyObject, members: object = {}): object => ({ ...key.export({ format: 'jwk' }), ...members })

async function sign (header: object = { kid: 'k' }, claims: object = {}): Promise<string> {
  return await new SignJWT({ iss: 'op', ...claims }).setProtectedHeader({ alg: 'RS256', ...header }).sign(right.privateKey)
}

async function verify (
  keys: unknown[],
  token: string,
  { log = silentLog, alg = 'RS256' }: { log?: FastifyBaseLogger, alg?: string } = {}
): Promise<string> {
  const answer = async (): Promise<Response> => new Response(JSON.stringify({ keys }), { headers: HEADERS })
  const keySet = createKeySet('https://op.example/jwks', answer, log)
  return await keySet.verify(token, { algorithms: [alg], issuer: 'op' }).then(
    () => 'verified',
    ({ code }: { code: string }) => code
  )
}

t.test('K4 each key that fits is tried, five at most', async (t) => {
  const good = jwkOf(right.publicKey, { kid: 'k' })
  const others = wrong.map(({ publicKey }) => jwkOf(publicKey, { kid: 'k' }))
  const nameless = wrong.map(({ publicKey }) => jwkOf(publicKey))
  const token = await sign()
  const cases: Array<[what: string, keys: object[], token: string, outcome: string]> = [
    ['the same key twice', [good, good], token, 'verified'],
    ['the same key twice, with and without kid', [good, jwkOf(right.publicKey)], token, 'verified'],
    ['two keys of one kid', [...others.slice(0, 1), good], token, 'verified'],
    ['the fifth', [...others.slice(0, 4), good], token, 'verified'],
    ['not the sixth', [...others, good], token, 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED'],
    ['two keys of one kid that both do not fit', others.slice(0, 2), token, 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED'],
    ['the claims are checked as well', [...others, good].slice(3), await sign({ kid: 'k' }, { iss: 'evil' }),
      'ERR_JWT_CLAIM_VALIDATION_FAILED'],
    ['a key without kid', [jwkOf(right.publicKey)], token, 'verified'],
    ['a key without kid behind one of that kid', [...others.slice(0, 1), jwkOf(right.publicKey)], token, 'verified'],
    ['not the sixth of those', [...others.slice(0, 2), ...nameless.slice(2), jwkOf(right.publicKey)], token,
      'ERR_JWS_SIGNATURE_VERIFICATION_FAILED'],
    ['a key of another kid', [jwkOf(right.publicKey, { kid: 'other' })], token, 'ERR_JWKS_NO_MATCHING_KEY'],
    ['a token without kid', [...others.slice(0, 2), good], await sign({}), 'verified'],
    ['a token without kid, no key fits', others, await sign({}), 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED'],
    ['a key without alg', [{ ...good, use: 'sig' }], token, 'verified'],
    ['a key of another alg', [{ ...good, alg: 'RS512' }], token, 'ERR_JWKS_NO_MATCHING_KEY'],
    ['members without a value', [{ ...good, alg: '', use: null, key_ops: [], x5c: [], oth: [], d: null }], token,
      'verified']
  ]
  for (const [what, keys, token, outcome] of cases) t.equal(await verify(keys, token), outcome, what)
})

t.test('K4 a key set with unusable members: the good keys are used, and the log names the others', async (t) => {
  const good = jwkOf(right.publicKey, { kid: 'k' })
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { d: _, ...halfPrivate } = jwkOf(right.privateKey) as { d: string }
  const bad: Array<[key: unknown, problem: string]> = [
    [null, 'key 0 is not an object'],
    ['key', 'key 1 is not an object'],
    [jwkOf(privateKey, { kid: 'private' }), 'key 2 (kid "private") has private members'],
    [halfPrivate, 'key 3 has private members'],
    [{ kty: 'oct', k: 'AAAA', kid: 's' }, 'key 4 (kid "s") has private members'],
    [{ kty: 'RSA', n: '!', e: 17 }, 'key 5 is not a public key that can be read'],
    [jwkOf(weak, { kid: 'weak' }), 'key 6 (kid "weak") has only 1024 bits'],
    [{ ...good, kid: 7 }, 'key 7 has a kid, alg or key_ops of the wrong type'],
    [{ kty: 'RSA', x5c: ['AAAA'] }, 'key 8 is not a public key that can be read'],
    [{ kty: 'RSA', x5c: 'AAAA' }, 'key 9 is not a public key that can be read'],
    [{}, ''], // the log names ten
    [{ kty: 'RSA', use: 'enc', n: '!' }, ''] // it is not for signatures
  ]
  const warnings: Array<[{ leftOut: string[] }, string]> = []
  const log = { ...silentLog, warn: (...line: [{ leftOut: string[] }, string]) => { warnings.push(line) } }
  const options = { log: log as unknown as FastifyBaseLogger }
  t.equal(await verify([...bad.map(([key]) => key), good], await sign(), options), 'verified')
  t.same(warnings.map(([{ leftOut }]) => leftOut), [bad.map(([, problem]) => problem).filter(Boolean)])
  t.notMatch(JSON.stringify(warnings), (jwkOf(privateKey) as { d: string }).d)

  const leaked = await verify([jwkOf(right.privateKey, { kid: 'k' })], await sign(), options)
  t.equal(leaked, 'ERR_JWKS_NO_MATCHING_KEY', 'a private key that was published verifies nothing')
})

t.test('K4 a key that has only its certificate is used', async (t) => {
  const { key, cert } = testCertificate()
  const x5c = [new X509Certificate(cert).raw.toString('base64')]
  const token = async (privateKey: string | KeyObject): Promise<string> => {
    const signingKey = typeof privateKey === 'string' ? createPrivateKey(privateKey) : privateKey
    return await new SignJWT({ iss: 'op' }).setProtectedHeader({ alg: 'ES256', kid: 'k' }).sign(signingKey)
  }
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  for (const jwk of [{ kid: 'k', x5c }, { kty: 'EC', kid: 'k', use: 'sig', alg: 'ES256', x5c }]) {
    t.equal(await verify([jwk], await token(key), { alg: 'ES256' }), 'verified')
    t.equal(await verify([jwk], await token(other.privateKey), { alg: 'ES256' }), 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED')
  }
})

t.test('K4 the log names the keys that are left out once, as long as they are the same', async (t) => {
  const provider = await startedProvider(t)
  const { server, lines } = captureLog()
  const app = await buildApp(t, optionsFor(provider), server)
  provider.fault(faults['jwks-private-keys'])
  for (const rotation of [0, 1, 2]) {
    if (rotation > 0) provider.rotateKeys()
    await logIn({ app, provider }, 'alice')
  }
  t.equal(provider.count('jwks'), 3)
  const warnings = lines().split('\n').filter((line) => line.includes('keys of the provider are not used'))
  t.equal(warnings.length, 1)
  t.match(warnings[0], 'kid \\"private\\') // in JSON
})

t.test('K4 a key set as text/plain is read, a page is refused', async (t) => {
  const provider = await startedProvider(t)
  const plain = await attempt(t, provider, { on: 'jwks', headers: { 'content-type': 'text/plain' } })
  t.equal(plain.page.status, 200)
  for (const fault of [faults['jwks-html'], { on: 'jwks', headers: { 'content-type': 'text/html' } }] as const) {
    await assertRefused(t, await attempt(t, provider, fault), 502, 'FST_OIDC_PROVIDER_RESPONSE')
  }
})

t.test('K4 R7 R36 of many keys, a hundred are read at once, and the others when a token needs them', async (t) => {
  const good = jwkOf(right.publicKey, { kid: 'k' })
  const decoys = (count: number): object[] => Array.from({ length: count }, (_, index) => {
    return { ...jwkOf(wrong[0]?.publicKey as KeyObject), kid: `decoy-${index}` }
  })
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const parts = [{ alg: 'RS256', kid: 'k' }, { iss: 'op' }].map((part) => Buffer.from(JSON.stringify(part)))
  const signed = parts.map((part) => part.toString('base64url')).join('.')
  const signature = signBytes('sha256', Buffer.from(signed), weak.privateKey).toString('base64url')
  const token = await sign()
  const cases: Array<[what: string, keys: unknown[], token: string, outcome: string | undefined]> = [
    ['a good key', [...decoys(100), good], token, 'verified'],
    ['only one that cannot be read', [...decoys(100), { ...good, n: '!' }], token, undefined],
    ['one that is too short', [...decoys(100), jwkOf(weak.publicKey, { kid: 'k' })], `${signed}.${signature}`, undefined],
    ['the last that is looked at', [...Array(19_999).fill(0), good], token, 'verified'],
    ['not one after it', [...Array(20_000).fill(0), good], token, 'ERR_JWKS_NO_MATCHING_KEY'],
    ['not after 300,000 that are empty', [...Array(300_000).fill({}), good], token, 'ERR_JWKS_NO_MATCHING_KEY']
  ]
  for (const [what, keys, token, outcome] of cases) {
    const found = await verify(keys, token)
    if (outcome === undefined) t.not(found, 'verified', what)
    else t.equal(found, outcome, what)
  }

  const later = [
    jwkOf(weak.publicKey, { kid: 'weak' }), { kid: 'certificate', x5c: ['AAAA'] }, { kty: 'EC', kid: 'empty' },
    { kty: 'EC', kid: 'number', x: 7 }, jwkOf(right.privateKey, { kid: 'private' })
  ]
  const { leftOut } = readKeys([...decoys(100), ...later])
  t.same(leftOut, [
    'key 101 (kid "certificate") is not a public key that can be read',
    'key 102 (kid "empty") is not a public key that can be read',
    'key 103 (kid "number") is not a public key that can be read',
    'key 104 (kid "private") has private members'
  ])
})
