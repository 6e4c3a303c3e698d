import fc from 'fast-check'
import t from 'tap'
import { preferredLanguage } from '../../lib/pages/accept-language.ts'
import { LANGUAGES } from '../../lib/pages/texts.ts'

t.test('the language with the highest weight counts, by its primary subtag', async (t) => {
  const cases: Array<[header: string | undefined, language: string]> = [
    [undefined, 'en'],
    ['', 'en'],
    ['de', 'de'],
    ['de-AT', 'de'],
    ['zh-Hant-TW,zh;q=0.9,en;q=0.8', 'zh'],
    ['PT-br', 'pt'],
    ['sv,fi;q=0.9,nl;q=0.2', 'nl'],
    ['sv', 'en'],
    ['en;q=0.5, fr;q=0.8', 'fr'],
    ['fr;q=0.5, it;q=0.5', 'fr'],
    ['de-CH;q=0.3,pl', 'pl'],
    ['de;q=0', 'en'],
    ['de;q=0,es;q=0.1', 'es'],
    ['*', 'en'],
    ['*;q=0.5,ja;q=0.4', 'en'],
    ['sv,*;q=0.1,ja;q=0.4', 'ja'],
    ['ja ; q=0.7 , de ; q = 0.9', 'de'],
    ['de;q=much,es;q=0.1', 'es'],
    ['de;level=1,es;q=0.1', 'es'],
    ['de;q=,es;q=-1', 'en'],
    ['deutsch', 'en'],
    ['constructor,__proto__', 'en'],
    [`${'sv,'.repeat(60)}de`, 'en']
  ]
  for (const [header, language] of cases) t.equal(preferredLanguage(header), language, String(header))
})

t.test('any header gives a language of the pages', async () => {
  const part = fc.constantFrom('de', 'sv', '*', ',', ';', 'q=', '0.5', '1', '-', ' ', '\t', 'é')
  const header = fc.oneof(fc.string(), fc.array(part).map((parts) => parts.join('')))
  fc.assert(fc.property(header, (value) => LANGUAGES.includes(preferredLanguage(value))))
})
