import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'

/** A private key and its certificate, PEM, for `tls` options. */
export interface TestCertificate {
  key: string
  cert: string
}

const length = (size: number): number[] => {
  if (size < 0x80) return [size]
  return size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff]
}

const der = (tag: number, ...content: Array<Buffer | number[]>): Buffer => {
  const body = Buffer.concat(content.map((part) => Buffer.from(part)))
  return Buffer.from([tag, ...length(body.length), ...body])
}

const sequence = (...content: Buffer[]): Buffer => der(0x30, ...content)
const oid = (...bytes: number[]): Buffer => der(0x06, bytes)
const ascii = (tag: number, text: string): Buffer => der(tag, Buffer.from(text))

const ecdsaWithSha256 = (): Buffer => sequence(oid(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02))

const distinguishedName = (name: string): Buffer =>
  sequence(der(0x31, sequence(oid(0x55, 0x04, 0x03), ascii(0x0c, name))))

// UTCTime ends in 2049, so the end is a GeneralizedTime (RFC 5280, section 4.1.2.5)
const validity = (): Buffer => sequence(ascii(0x17, '200101000000Z'), ascii(0x18, '21000101000000Z'))

const loopbackNames = (): Buffer => {
  const names = sequence(der(0x87, [127, 0, 0, 1]), ascii(0x82, 'localhost'))
  return der(0xa3, sequence(sequence(oid(0x55, 0x1d, 0x11), der(0x04, names))))
}

const toBeSigned = (name: string, publicKey: Buffer): Buffer => sequence(
  der(0xa0, der(0x02, [2])),
  der(0x02, [1], randomBytes(8)),
  ecdsaWithSha256(),
  distinguishedName(name),
  validity(),
  distinguishedName(name),
  publicKey,
  loopbackNames()
)

const pem = (label: string, bytes: Buffer): string =>
  `-----BEGIN ${label}-----\n${bytes.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END ${label}-----\n`

/**
 * Creates a self-signed certificate for 127.0.0.1 and localhost, so that no private key is in the repository. To trust
 * it, use its `cert` as `ca`. As a client certificate, its subject is `CN=` and the name.
 *
 * @example
 * const tls = testCertificate()
 * const provider = await startProvider({ tls })
 * const browser = client({ app, baseUrl, ca: tls.cert })
 */
export const testCertificate = (name = 'localhost'): TestCertificate => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const tbs = toBeSigned(name, publicKey.export({ type: 'spki', format: 'der' }))
  const signature = der(0x03, [0], sign('sha256', tbs, privateKey))
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    cert: pem('CERTIFICATE', sequence(tbs, ecdsaWithSha256(), signature))
  }
}
