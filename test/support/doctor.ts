import { run } from '../../lib/doctor/cli.ts'
import type { Report } from '../../lib/doctor/report.ts'

export interface Output {
  status: number
  stdout: string
  stderr: string
}

// The default fails where other work shares the cores.
const TIMEOUT = ['--timeout', '60']

/** Runs `fastify-oidc doctor` in this process. `stderr` is called with each text. */
export async function doctor (
  args: string[],
  env: NodeJS.ProcessEnv = {},
  onText: (text: string) => void = () => {}
): Promise<Output> {
  const output = { stdout: '', stderr: '' }
  const status = await run(['doctor', ...TIMEOUT, ...args], {
    env,
    stdout: { write: (text) => { output.stdout += text } },
    stderr: {
      write (text) {
        output.stderr += text
        onText(text)
      }
    }
  })
  return { status, ...output }
}

/** The report of `fastify-oidc doctor --json`. */
export async function diagnose (...[args, ...others]: Parameters<typeof doctor>): Promise<Output & { report: Report }> {
  const output = await doctor([...args, '--json'], ...others)
  return { ...output, report: JSON.parse(output.stdout) as Report }
}

/** The codes of the findings that are no notes, as `level code`. */
export function problemsOf ({ findings }: Report): string[] {
  return findings.filter(({ level }) => level !== 'note').map(({ level, code }) => `${level} ${code}`)
}
