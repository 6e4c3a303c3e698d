import { Agent, request, type IncomingMessage } from 'node:http'

export interface Browser {
  /** Returns the URL that a GET redirects to. Throws when the response is not a redirect. */
  follow(path: string): Promise<URL>
  /** Returns the Cookie header for a path. */
  cookies(path: string): string
}

interface Cookie { value: string, path: string }

/** A client with its own cookies. It shares connections with other clients. */
export function openBrowser (agent: Agent, port: number): Browser {
  const jar = new Map<string, Cookie>()
  const cookies = (path: string) => cookieHeader(jar, path)
  const follow = async (path: string) => {
    const response = await get(agent, port, path, cookies(path))
    for (const line of response.headers['set-cookie'] ?? []) keep(jar, line)
    if (response.statusCode !== 302) throw new Error(`GET ${path} answered ${response.statusCode}`)
    return new URL(response.headers.location as string, `http://127.0.0.1:${port}`)
  }
  return { follow, cookies }
}

function get (agent: Agent, port: number, path: string, cookie: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { Accept: 'text/html', ...(cookie === '' ? {} : { Cookie: cookie }) }
    request({ agent, host: '127.0.0.1', port, path, headers }, response => {
      response.resume().on('end', () => resolve(response))
    }).on('error', reject).end()
  })
}

function keep (jar: Map<string, Cookie>, line: string): void {
  const [pair, ...attributes] = line.split('; ') as [string, ...string[]]
  const [name, value] = split(pair)
  const { path = '/', 'max-age': maxAge, expires } = Object.fromEntries(attributes.map(attribute => {
    const [key, value] = split(attribute)
    return [key.toLowerCase(), value]
  }))
  const gone = maxAge === '0' || (expires !== undefined && Date.parse(expires) <= Date.now())
  if (gone) jar.delete(name)
  else jar.set(name, { value, path })
}

function split (pair: string): [string, string] {
  const at = pair.indexOf('=')
  return at === -1 ? [pair, ''] : [pair.slice(0, at), pair.slice(at + 1)]
}

function cookieHeader (jar: Map<string, Cookie>, path: string): string {
  return [...jar]
    .filter(([, cookie]) => path.startsWith(cookie.path))
    .map(([name, cookie]) => `${name}=${cookie.value}`)
    .join('; ')
}
