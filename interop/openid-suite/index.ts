import { parseArgs } from 'node:util'
import { CLIENT, startApplication } from './application.ts'
import { plans } from './plans.ts'
import type { Plan } from './plans.ts'
import { createSuite } from './suite.ts'
import type { Module, Result, Suite } from './suite.ts'

// Runs the plans of the OpenID Foundation's conformance suite: npm run certification [part of a plan's name]

const BASE_URL = 'https://localhost:8965'
const ALIAS = 'fastify-oidc'
const { SUITE_URL = '', SUITE_CA = '' } = process.env

interface Outcome {
  plan: Plan
  module: Module
  result: Result
  expected: boolean
  reasons: string[]
}

async function runPlan (suite: Suite, plan: Plan): Promise<Outcome[]> {
  const { id, modules } = await suite.createPlan(plan.name, plan.variant, {
    alias: ALIAS,
    waitTimeoutSeconds: 2,
    client: {
      ...CLIENT,
      redirect_uri: `${BASE_URL}/auth/callback`,
      post_logout_redirect_uri: `${BASE_URL}/auth/logged-out`,
      backchannel_logout_uri: `${BASE_URL}/auth/backchannel-logout`,
      frontchannel_logout_uri: `${BASE_URL}/auth/frontchannel-logout`,
      frontchannel_logout_session_required: true,
      backchannel_logout_session_required: true,
      id_token_signed_response_alg: 'RS256'
    }
  })
  const outcomes: Outcome[] = []
  for (const module of modules) {
    const outcome = await runModule(suite, plan, module, id)
    report(outcome)
    outcomes.push(outcome)
  }
  return outcomes
}

async function runModule (suite: Suite, plan: Plan, module: Module, planId: string): Promise<Outcome> {
  const run = await suite.start(planId, module)
  const application = await startApplication(
    { issuer: suite.issuerOf(ALIAS), baseUrl: BASE_URL, ca: suite.ca },
    { userinfo: true, ...plan.options }
  )
  try {
    await plan.visit(application.browser, module)
    const { result } = await suite.end(run)
    return await judge(suite, { plan, module, run, result: result ?? 'UNKNOWN' })
  } catch (error) {
    return { plan, module, result: 'UNKNOWN', expected: false, reasons: [String(error)] }
  } finally {
    await application.close()
  }
}

async function judge (
  suite: Suite,
  { plan, module, run, result }: { plan: Plan, module: Module, run: string, result: Result }
): Promise<Outcome> {
  const expected = result === (plan.besides?.[module.testModule]?.result ?? 'PASSED')
  return { plan, module, result, expected, reasons: expected ? [] : await suite.failures(run) }
}

function report ({ module, result, expected, reasons }: Outcome): void {
  console.log(`  ${expected ? 'ok    ' : 'FAILED'} ${result.padEnd(8)} ${module.testModule}`)
  for (const reason of reasons) console.log(`         ${reason}`)
}

const { positionals: [wanted = ''] } = parseArgs({ allowPositionals: true })
const suite = createSuite(SUITE_URL, SUITE_CA)
const outcomes: Outcome[] = []
for (const plan of plans.filter(({ name }) => name.includes(wanted))) {
  console.log(`${plan.name} ${JSON.stringify(plan.variant)}`)
  outcomes.push(...await runPlan(suite, plan))
}
const failed = outcomes.filter(({ expected }) => !expected).length
console.log(`${outcomes.length - failed} passed, ${failed} failed`)
process.exitCode = failed > 0 || outcomes.length === 0 ? 1 : 0
