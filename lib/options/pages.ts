import { ADVICE } from '../pages/error-texts.ts'
import { LANGUAGES, TEXT_NAMES } from '../pages/texts.ts'
import { isRecord } from '../util/json.ts'
import { check, checkKeys, oneOf, optional, text } from './check.ts'
import type { Advice } from '../pages/error-texts.ts'
import type { Brand } from '../pages/layout.ts'
import type { ParseContext } from './context.ts'
import type { PageOptions } from '../../types/options.ts'
import type { PageLanguage, PageMessages, PageTexts } from '../../types/pages.ts'

export interface PageSettings extends Brand {
  /** `undefined`: that of the browser. */
  language: PageLanguage | undefined
  messages: PageMessages
  render: PageOptions['render']
}

const OPTIONS = ['name', 'logo', 'theme', 'language', 'messages', 'render']
const THEMES = ['light', 'dark', 'auto']
/** The types that browsers show as an image. */
const IMAGE = /^data:image\/(?:png|jpeg|gif|webp|avif|svg\+xml)[;,]/i
/** In characters. Each page contains the logo. */
const MAX_LOGO = 100_000

/** Throws FST_OIDC_OPTION. */
export function parsePages (
  options: PageOptions = {},
  { baseUrl, hook }: Pick<ParseContext, 'baseUrl' | 'hook'>
): PageSettings {
  check(isRecord(options), '"pages" must be an object')
  checkKeys(options, OPTIONS, 'pages.')
  return {
    name: optional(options.name, 'pages.name', text),
    logo: optional(options.logo, 'pages.logo', parseLogo),
    host: new URL(baseUrl).host,
    theme: oneOf(options.theme ?? 'auto', THEMES, 'pages.theme'),
    language: optional(options.language, 'pages.language', (value, key) => oneOf<PageLanguage>(value, LANGUAGES, key)),
    messages: optional(options.messages, 'pages.messages', parseMessages) ?? {},
    render: hook(options.render as PageOptions['render'], 'pages.render')
  }
}

// The pages load nothing, and an image that is loaded would tell its server who logs in.
function parseLogo (value: unknown, key: string): string {
  const logo = text(value, key)
  const kinds = 'PNG, JPEG, GIF, WebP, AVIF or SVG'
  check(IMAGE.test(logo), `"${key}" must be a data: URI of an image (${kinds}), because the pages load nothing`)
  check(logo.length <= MAX_LOGO, `"${key}" must have at most ${MAX_LOGO} characters, because each page contains it`)
  const [head = '', content = ''] = logo.split(/,(.*)/s)
  const isComplete = /;base64$/i.test(head) ? /^[\w+/%-]+={0,2}$/.test(content) : content !== ''
  check(isComplete, `"${key}" has no image in it`)
  return logo
}

function parseMessages (value: unknown, key: string): PageMessages {
  check(isRecord(value), `"${key}" must be an object`)
  for (const [name, entry] of Object.entries(value)) {
    if (LANGUAGES.includes(name as PageLanguage)) checkTexts(entry, `${key}.${name}`)
    else checkText(name, entry, key)
  }
  return value
}

function checkTexts (value: unknown, key: string): void {
  check(isRecord(value), `"${key}" must be an object`)
  for (const [name, entry] of Object.entries(value)) checkText(name, entry, key)
}

function checkText (name: string, value: unknown, key: string): void {
  check(TEXT_NAMES.includes(name as keyof PageTexts), `"${key}.${name}" is neither a text nor a language of the pages`)
  const isLeftOut = value === '' && ADVICE.includes(name as Advice)
  if (!isLeftOut) text(value, `${key}.${name}`)
}
