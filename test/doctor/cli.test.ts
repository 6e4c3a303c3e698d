import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { run, USAGE } from '../../lib/doctor/cli.ts'
import { diagnose, doctor } from '../support/doctor.ts'
import { startedProvider } from '../support/started.ts'

const SECRET = 'Geheim-0815'

t.test('K12 a wrong argument is named, and the usage is shown', async (t) => {
  const cases: Array<[args: string[], message: string, env?: NodeJS.ProcessEnv]> = [
    [['https://id.example.com', '--verbose'], "Unknown option '--verbose'"],
    [['https://id.example.com', '-x'], "Unknown option '-x'"],
    [['https://id.example.com', '--client-id'], "Option '--client-id <value>' argument missing"],
    [['https://id.example.com', '--json=yes'], "Option '--json' does not take an argument"],
    [[], 'The issuer of the provider is missing.'],
    [['https://a.example', 'https://b.example'], 'There is more than one issuer.'],
    [['id.example.com'], '"issuer" must be an absolute URL, with "https://" at its start'],
    [['http://id.example.com'], '"issuer": http is for loopback addresses only (localhost, *.localhost, 127.0.0.0/8, ' +
      '[::1]), "issuer" must be an https URL'],
    [['https://id.example.com', '--base-url', 'app'], '"baseUrl" must be an absolute URL, with "https://" at its start'],
    [['https://id.example.com', '--timeout', 'long'], '"timeout" must be a number from 0.001 to 120'],
    [['https://id.example.com', '--login'], '--login needs --client-id.'],
    [['https://id.example.com', '--port', 'http'], '--port takes a number from 1 to 65535.'],
    [['https://id.example.com', '--port', '65536'], '--port takes a number from 1 to 65535.'],
    [['https://id.example.com', '--wait', '0'], '--wait takes a number from 1 to 86400.'],
    [['https://id.example.com', '--client-secret-env', 'X'], '--client-secret-env needs --client-id.']
  ]
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = await doctor(args)
    t.same([status, stdout, stderr], [1, '', `${message}\n\n${USAGE}`], message)
  }
})

t.test('K12 a secret is taken from the environment only, and never printed', async (t) => {
  const client = ['https://id.example.com', '--client-id', 'web']
  const cases: Array<[args: string[], message: RegExp, env?: NodeJS.ProcessEnv]> = [
    [['--client-secret', SECRET], /^--client-secret is no flag/],
    [[`--client-secret=${SECRET}`], /^--client-secret is no flag/],
    [['--client-secret-env', SECRET], /^--client-secret-env takes the name of an environment variable, not the secret/],
    [['--client-secret-env', 'SECRET_OF_WEB'], /^The environment variable that --client-secret-env names is not set/],
    [['--client-secret-env', 'S'], /^The environment variable that --client-secret-env names is not set/, { S: '' }],
    [['--client-secret-env', 'S'], /^"clientSecret" ends with white space/, { S: `${SECRET}\n` }]
  ]
  for (const [args, message, env] of cases) {
    const { status, stdout, stderr } = await doctor([...client, ...args], env)
    t.same([status, stdout], [1, ''])
    t.match(stderr, message)
    t.notMatch(stderr, SECRET)
    t.notMatch(stderr, 'SECRET_OF_WEB')
  }
})

t.test('another command is refused, and --help shows the usage', async (t) => {
  const written = { stdout: '', stderr: '' }
  const io = {
    env: {},
    stdout: { write: (text: string) => { written.stdout += text } },
    stderr: { write: (text: string) => { written.stderr += text } }
  }
  t.equal(await run(['login'], io), 1)
  t.same(written, { stdout: '', stderr: `The command is "doctor".\n\n${USAGE}` })
  t.equal(await run(['-h'], io), 0)
  t.equal(written.stdout, USAGE)
  t.match(await doctor(['--help']), { status: 0, stdout: USAGE, stderr: '' })
})

t.test('an error that nobody expects is not hidden', async (t) => {
  const provider = await startedProvider(t)
  const broken = { env: {}, stdout: { write: () => { throw new Error('EPIPE') } }, stderr: { write: () => {} } }
  await t.rejects(run(['doctor', provider.issuer], broken), { message: 'EPIPE' })
})

t.test('the text has no control characters, whatever the provider writes', async (t) => {
  const provider = await startedProvider(t)
  provider.options.metadata = { scopes_supported: ['openid', '\u001b[31mred\u009b\u202e\u061c', 'a\nERROR  forged'] }
  const { stdout } = await doctor([provider.issuer])
  t.match(stdout, 'openid ?[31mred??? a?ERROR  forged')
  // eslint-disable-next-line no-control-regex
  t.notMatch(stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u202e]| $/m)
  const json = await diagnose([provider.issuer])
  // eslint-disable-next-line no-control-regex
  t.notMatch(json.stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u202e]/)
  t.same(json.report.metadata?.supports['scopes_supported'], provider.options.metadata['scopes_supported'])
})

const bin = fileURLToPath(new URL(`../../lib/doctor/bin${import.meta.filename.slice(-3)}`, import.meta.url))

t.test('the command of the package runs as a process', async (t) => {
  t.match(readFileSync(bin, 'utf8'), /^#!\/usr\/bin\/env node\n/)
  const { bin: commands } = JSON.parse(readFileSync('package.json', 'utf8')) as { bin: Record<string, string> }
  t.same(commands, { 'fastify-oidc': 'dist/lib/doctor/bin.js' })
  const start = (...args: string[]) => spawnSync(process.execPath, [...process.execArgv, bin, ...args], { encoding: 'utf8' })
  t.match(start('doctor', '--help'), { status: 0, stdout: USAGE, stderr: '' })
  t.match(start('doctor', '--nope'), { status: 1, stdout: '', stderr: "Unknown option '--nope'" })
  const { status, stdout } = start('doctor', 'http://127.0.0.1:1', '--json')
  t.equal(status, 1)
  t.match(JSON.parse(stdout), { usable: false, findings: [{ code: 'metadata_unavailable', message: /ECONNREFUSED/ }] })
})
