import { en } from './languages/en.ts'
import type { PageLanguage, PageMessages, PageTexts } from '../../types/pages.ts'

export type TextsOf = (language: PageLanguage) => Promise<Readonly<PageTexts>>

// English is in memory from the start, any other language once a browser has asked for it.
const LOADERS: Record<PageLanguage, () => Promise<PageTexts>> = {
  en: async () => en,
  de: async () => (await import('./languages/de.ts')).de,
  fr: async () => (await import('./languages/fr.ts')).fr,
  es: async () => (await import('./languages/es.ts')).es,
  pt: async () => (await import('./languages/pt.ts')).pt,
  it: async () => (await import('./languages/it.ts')).it,
  nl: async () => (await import('./languages/nl.ts')).nl,
  pl: async () => (await import('./languages/pl.ts')).pl,
  ja: async () => (await import('./languages/ja.ts')).ja,
  zh: async () => (await import('./languages/zh.ts')).zh
}

export const LANGUAGES = Object.keys(LOADERS) as PageLanguage[]
export const TEXT_NAMES = Object.keys(en) as Array<keyof PageTexts>

/** The texts of each language, with those of the application in place of the built-in ones. */
export function createTexts (messages: PageMessages): TextsOf {
  const known = new Map<PageLanguage, Readonly<PageTexts>>()
  const forAll = Object.fromEntries(Object.entries(messages).filter(([, text]) => typeof text === 'string'))

  return async (language) => {
    const found = known.get(language)
    if (found !== undefined) return found
    const texts = Object.freeze({ ...await LOADERS[language](), ...forAll, ...messages[language] })
    known.set(language, texts)
    return texts
  }
}
