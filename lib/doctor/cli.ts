import { parseArgs } from 'node:util'
import { OidcError } from '../errors.ts'
import { examine } from './examine.ts'
import { clean, printJson, printReport } from './print.ts'
import type { Asked } from './options.ts'

export interface Process {
  env: NodeJS.ProcessEnv
  stdout: { write: (text: string) => unknown }
  stderr: { write: (text: string) => unknown }
}

export const USAGE = `Usage: npx fastify-oidc doctor <issuer> [options]

Examines an OpenID Provider, and says which options to write and what to register.

  --base-url <url>            where your application is. Default: https://app.example.com,
                              with --login http://127.0.0.1:{port}
  --client-id <id>            tries the client: one token request for each way to authenticate
  --client-secret-env <name>  the environment variable that has the secret of the client
  --login                     logs in with your browser: prints your claims, and tries prompt=none and max_age
  --port <port>               where the login is served when --base-url does not say it. Default: 3000
  --wait <seconds>            how long to wait for your browser. Default: 300
  --timeout <seconds>         how long one call to the provider may take. Default: 5
  --json                      prints JSON
  --help                      prints this text

Exit status: 0 when logins can work, else 1.
`
const FLAGS = {
  'base-url': { type: 'string' },
  'client-id': { type: 'string' },
  'client-secret-env': { type: 'string' },
  login: { type: 'boolean' },
  port: { type: 'string' },
  wait: { type: 'string' },
  timeout: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' }
} as const

/** A wrong argument. Its message contains no value of an argument: one may be a secret. */
class UsageError extends Error {}

/** Runs the command line, without the name of the program. Returns the exit status. */
export async function run (args: string[], { env, stdout, stderr }: Process): Promise<number> {
  try {
    const { values, positionals } = parse(args)
    if (values.help === true) {
      stdout.write(USAGE)
      return 0
    }
    const report = await examine(askedOf(values, positionals, env), (line) => stderr.write(`${clean(line)}\n`))
    stdout.write(`${values.json === true ? printJson(report) : printReport(report)}\n`)
    return report.usable ? 0 : 1
  } catch (error) {
    if (!(error instanceof UsageError || error instanceof OidcError)) throw error
    stderr.write(`${clean(error.message)}\n\n${USAGE}`)
    return 1
  }
}

type Parsed = ReturnType<typeof parseFlags>

function parseFlags (args: string[]) {
  return parseArgs({ args, options: FLAGS, allowPositionals: true, strict: true })
}

function parse (args: string[]): Parsed {
  try {
    return parseFlags(args)
  } catch (error) {
    throw new UsageError(usageMessage(args, error as Error))
  }
}

// The first line names the flag. The others of `parseArgs` are about positional arguments.
function usageMessage (args: string[], { message }: Error): string {
  return args.some((arg) => /^--client-secret(?:=|$)/.test(arg))
    ? '--client-secret is no flag, because others can see it: put the secret into an environment variable, and name ' +
      'that by --client-secret-env'
    : message.split(/[.\n]/, 1)[0] as string
}

function askedOf (values: Parsed['values'], positionals: string[], env: NodeJS.ProcessEnv): Asked {
  const [command, issuer, ...others] = positionals
  demand(command === 'doctor', 'The command is "doctor".')
  demand(issuer !== undefined, 'The issuer of the provider is missing.')
  demand(others.length === 0, 'There is more than one issuer.')
  const { 'client-id': clientId, 'client-secret-env': secretVariable } = values
  demand(secretVariable === undefined || clientId !== undefined, '--client-secret-env needs --client-id.')
  demand(values.login !== true || clientId !== undefined, '--login needs --client-id.')
  const port = numberOf(values.port, 3000, '--port', 65_535)
  const wait = numberOf(values.wait, 300, '--wait', 86_400)
  return {
    issuer,
    baseUrl: values['base-url'] ?? (values.login === true ? `http://127.0.0.1:${port}` : 'https://app.example.com'),
    clientId,
    clientSecret: secretVariable === undefined ? undefined : secretIn(env, secretVariable),
    secretVariable,
    timeout: values.timeout === undefined ? undefined : Number(values.timeout),
    login: values.login === true ? { port, wait } : undefined
  }
}

function numberOf (text: string | undefined, fallback: number, flag: string, max: number): number {
  if (text === undefined) return fallback
  demand(/^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= max, `${flag} takes a number from 1 to ${max}.`)
  return Number(text)
}

function secretIn (env: NodeJS.ProcessEnv, name: string): string {
  demand(/^[A-Za-z_]\w*$/.test(name), '--client-secret-env takes the name of an environment variable, not the secret.')
  const secret = env[name]
  demand(
    secret !== undefined && secret !== '',
    'The environment variable that --client-secret-env names is not set, or not exported.'
  )
  return secret
}

function demand (condition: boolean, message: string): asserts condition {
  if (!condition) throw new UsageError(message)
}
