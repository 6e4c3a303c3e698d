import { LANGUAGES } from './texts.ts'
import type { PageLanguage } from '../../types/pages.ts'

const FALLBACK: PageLanguage = 'en'
/** How many language ranges are read. Browsers send fewer than ten. */
const MAX_RANGES = 50

/**
 * The language that the user likes best among those of the pages: the primary subtag of each range counts (RFC 4647,
 * section 3.4; RFC 9110, section 12.5.4). `*` stands for English.
 */
export function preferredLanguage (header = ''): PageLanguage {
  const accepted = header.split(',', MAX_RANGES).map(parseRange).filter(({ weight }) => weight > 0)
  accepted.sort((one, other) => other.weight - one.weight)
  return accepted.map(({ language }) => language).find((language) => language !== undefined) ?? FALLBACK
}

function parseRange (range: string): { language: PageLanguage | undefined, weight: number } {
  const [tag = '', weight = 'q=1'] = range.toLowerCase().split(';').map((part) => part.trim())
  const primary = tag === '*' ? FALLBACK : tag.split('-', 1)[0]
  // What is no number gives NaN, which is not above 0.
  return { language: LANGUAGES.find((language) => language === primary), weight: Number(weight.replace(/^q\s*=/, '')) }
}
