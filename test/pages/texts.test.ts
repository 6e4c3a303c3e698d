import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MESSAGES, OidcError } from '../../lib/errors.ts'
import { ADVICE, errorText } from '../../lib/pages/error-texts.ts'
import { LANGUAGES, TEXT_NAMES, createTexts } from '../../lib/pages/texts.ts'
import type { OidcErrorCode } from '../../lib/errors.ts'

const CODES = Object.keys(MESSAGES) as OidcErrorCode[]
const builtIn = createTexts({})

t.test('each language has its file and every text, and only those', async (t) => {
  const root = import.meta.filename.endsWith('.js') ? '../../..' : '../..'
  const files = readdirSync(join(import.meta.dirname, root, 'lib/pages/languages'))
  t.same(files.sort(), LANGUAGES.map((language) => `${language}.ts`).sort())
  const english = await builtIn('en')
  for (const language of LANGUAGES) {
    const texts = await builtIn(language)
    t.same(Object.keys(texts).sort(), [...TEXT_NAMES].sort(), language)
    for (const name of TEXT_NAMES) {
      t.ok(texts[name].trim() === texts[name] && texts[name] !== '', `${language} ${name}`)
      if (language !== 'en') t.not(texts[name], english[name], `${language} ${name} is translated`)
      t.notMatch(texts[name], /[<>"&]/, 'plain text')
    }
    t.equal(await builtIn(language), texts, 'made once')
  }
})

t.test('English says of an error what JSON and the log say', async (t) => {
  const english = await builtIn('en')
  for (const code of CODES) {
    t.equal(english[code], MESSAGES[code])
    t.equal(new OidcError(code).message, MESSAGES[code])
  }
})

t.test('each code has a text in each language, and what the user can do next', async (t) => {
  // Their own text says it.
  const complete = ['FST_OIDC_LOGIN_REQUIRED', 'FST_OIDC_AUTHENTICATION_TOO_OLD']
  for (const language of LANGUAGES) {
    const texts = await builtIn(language)
    for (const code of CODES) {
      const { title, paragraphs } = errorText(new OidcError(code), texts)
      t.equal(title, texts[code], `${language} ${code}`)
      t.equal(paragraphs.length > 0, !complete.includes(code), `${language} ${code}`)
      for (const paragraph of paragraphs) t.ok(ADVICE.some((name) => texts[name] === paragraph))
    }
  }
})

t.test('an error that says more than its code is translated as well, a message of the application is not', async (t) => {
  const [english, german] = [await builtIn('en'), await builtIn('de')]
  const textOf = (code: OidcErrorCode, message: string) => errorText(new OidcError(code, { message }), german)
  t.same(textOf('FST_OIDC_STATE', english.noCookies), { title: german.noCookies, paragraphs: [] })
  t.same(textOf('FST_OIDC_ID_TOKEN', english.notAskedAgain), {
    title: german.notAskedAgain, paragraphs: [german.contactSupport]
  })
  t.same(textOf('FST_OIDC_UNEXPECTED', english.applicationUnavailable), {
    title: german.applicationUnavailable, paragraphs: [german.tryLater]
  })
  t.same(textOf('FST_OIDC_CLAIMS', 'Ask your manager for access.'), {
    title: 'Ask your manager for access.', paragraphs: []
  })
})

t.test('the application replaces texts, in all languages or in one', async (t) => {
  const textsOf = createTexts({ logOut: 'Sign out', continue: 'Go', contactSupport: '', de: { logOut: 'Tschüss' } })
  const [english, german] = [await textsOf('en'), await textsOf('de')]
  t.match(english, { logOut: 'Sign out', continue: 'Go', logInAgain: 'Log in again' })
  t.match(german, { logOut: 'Tschüss', continue: 'Go', logInAgain: 'Erneut anmelden' })
  t.same(errorText(new OidcError('FST_OIDC_OUTSIDE'), german).paragraphs, [], 'advice can be left out')
  t.equal((await builtIn('de')).logOut, 'Abmelden', 'the texts of other registrations stay')
  t.ok(Object.isFrozen(german))
})
