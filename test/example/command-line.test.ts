import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { SESSION_KEY } from '../support/app.ts'
import { launchChromium, skipWithoutChromium } from '../support/chromium.ts'
import { examplePath, loadExample, startExampleProvider } from '../support/example.ts'

t.setTimeout(240_000)

t.test('a program logs in by device, and loses its access by a click', { skip: skipWithoutChromium }, async (t) => {
  const { buildApp } = await loadExample<typeof import('../../example/command-line/app.ts')>('command-line/app')
  const provider = await startExampleProvider(t)
  const { baseUrl } = provider
  const app = await buildApp({ ...provider, allowInsecureLoopback: true, session: { key: SESSION_KEY } }, {})
  t.teardown(async () => await app.close())
  await app.listen({ port: Number(new URL(baseUrl).port), host: 'localhost' })
  const browser = await launchChromium()
  t.teardown(async () => await browser.close())
  const page = await browser.newPage()
  page.setDefaultTimeout(60_000)

  const program = spawn(process.execPath, [...process.execArgv, examplePath('command-line/cli'), baseUrl], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(() => program.kill())
  const closed = once(program, 'close')
  let output = ''
  program.stdout.on('data', (chunk: Buffer) => { output += chunk.toString() })
  await once(program.stdout, 'data')
  const [url, code] = [/http:\S+/, /\w{4}-\w{4}$/].map((pattern) => pattern.exec(output.trim())?.[0]) as [
    string,
    string
  ]
  await page.goto(url)
  await page.getByRole('textbox').fill(code)
  await page.getByRole('button', { name: 'Continue' }).click()
  t.match(await page.textContent('body'), code)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByLabel('User name').fill('alice')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await closed
  t.match(output, /The API says: 200 \{"hello":"alice"[^]*with a new token: 200[^]*After the logout: 401/)

  await page.goto(baseUrl)
  t.equal(page.url(), `${baseUrl}/`, 'the provider knows the user')
  t.match(await page.textContent('body'), `cli.js ${baseUrl}`)
  await page.getByRole('button', { name: 'End access' }).click()
  t.match(await page.getByRole('status').textContent(), 'Ended logins of programs: 0')
})
