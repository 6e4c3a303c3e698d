import { readFileSync } from 'node:fs'
import t from 'tap'
import { OidcError, refuse } from '../../index.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, optionsFor } from '../support/app.ts'
import { openPage } from '../support/pages.ts'
import type { OidcErrorCode } from '../../index.ts'

const page = openPage('docs/errors.md')

t.test('an answer of its own', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const options = optionsFor(provider, { onClaims: () => { throw refuse('no account') } })
  const app = await page.run(t, 'onError', { context: { options } })
  const { status, text } = await client({ app, baseUrl: BASE_URL }).goto('/auth/login')
  t.equal(status, 403)
  t.equal(text(), 'Ask the help desk for an account.')
})

t.test('the table has every code, with its status', async (t) => {
  const rows = page.rowsOf('code')
  const source = readFileSync('lib/errors.ts', 'utf8')
  const codes = new Set(source.match(/^ {2}FST_OIDC_\w+(?=: \[)/gm)?.map((line) => line.trim()))
  t.ok(codes.size > 30)
  t.same([...rows.keys()].map((cell) => cell.replaceAll('`', '')).sort(), [...codes].sort())
  for (const [cell, row] of rows) {
    const { statusCode } = new OidcError(cell.replaceAll('`', '') as OidcErrorCode)
    t.ok(row.startsWith(`${statusCode} | `), `${cell}: ${statusCode}`)
  }
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
