import { spawn } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { delimiter, join } from 'node:path'
import { once } from 'node:events'
import { until } from './until.ts'
import type { Test } from 'tap'
import type { TestCertificate } from '../../lib/testing/index.ts'

const executable = `${process.env['PATH'] ?? ''}${delimiter}/usr/sbin`
  .split(delimiter)
  .map((folder) => join(folder, 'nginx'))
  .find((path) => existsSync(path))

/** Why tests with nginx are skipped, or `false`. With OIDC_TEST_ALL=1 they run, and fail when it is missing. */
export const skipWithoutNginx: string | false =
  executable === undefined && process.env['OIDC_TEST_ALL'] !== '1' && 'no nginx'

export interface Site {
  port: number
  /** The path that the proxy removes. */
  path: string
  /** The ports of the application's processes. */
  upstreams: number[]
  /** More directives. */
  directives?: string
}

const serverOf = ({ port, path, upstreams, directives = '' }: Site): string => `
  upstream app${port} { ${upstreams.map((port) => `server 127.0.0.1:${port};`).join(' ')} }
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    ${directives}
    location ${path}/ { proxy_pass http://app${port}/; }
  }`

/** Starts nginx with TLS in front of applications, with its default buffers. */
export async function startNginx (t: Test, { cert, key }: TestCertificate, sites: Site[]): Promise<void> {
  const folder = t.testdir({ 'cert.pem': cert, 'key.pem': key })
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${join(folder, name)};`)
  writeFileSync(join(folder, 'nginx.conf'), `
daemon off;
master_process off;
pid ${join(folder, 'nginx.pid')};
error_log stderr crit;
events {}
http {
  access_log off;
  ${temporary.join('\n  ')}
  ${sites.map(serverOf).join('\n')}
}`)
  const child = spawn(executable as string, ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr'], {
    stdio: ['ignore', 'inherit', 'inherit']
  })
  t.teardown(async () => {
    child.kill('SIGTERM')
    if (child.exitCode === null) await once(child, 'exit')
  })
  await until(async () => child.exitCode !== null || await isListening(sites[0]?.port as number))
}

async function isListening (port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port })
  const reached = await once(socket, 'connect').then(() => true, () => false)
  socket.destroy()
  return reached
}
