import { sha256 } from '../util/crypto.ts'
import { styleOf } from './style.ts'
import type { PageAction, PageContent, PageLanguage, PageOptions } from '../../types/index.ts'
import type { Page } from './pages.ts'

// The one layout of all pages. It is plain HTML, loads nothing, and every value is escaped.

/** What the application adds to each page. */
export interface Brand {
  name: string | undefined
  /** A `data:` URI of an image. */
  logo: string | undefined
  theme: NonNullable<PageOptions['theme']>
  /** The text of the logo where no name stands beside it. */
  host: string
}

/** How one request shows a page. */
export interface View {
  language: PageLanguage
  isFramed: boolean
}

export interface Layout {
  html: (page: Page, view: View) => string
  /** The Content-Security-Policy. `nonce` is that of a page that the application has rendered. */
  policy: (page: Page, view: View, nonce: string | undefined) => string
}

const SUBMIT = 'document.forms[0].submit()'

export function createLayout (brand: Brand): Layout {
  const style = styleOf(brand.theme)
  const header = headerOf(brand)
  const titleEnd = brand.name === undefined ? '' : ` – ${escapeHtml(brand.name)}`

  function html ({ content, leavesFrame = false }: Page, { language, isFramed }: View): string {
    const heading = escapeHtml(content.title)
    return [
      `<!doctype html><html lang="${language}"><head><meta charset="utf-8">`,
      '<meta name="viewport" content="width=device-width,initial-scale=1">',
      `<title>${heading}${titleEnd}</title>`,
      leavesFrame && isFramed ? '<base target="_blank">' : '',
      refreshOf(content),
      `<style>${style}</style></head><body>${header}<main><h1>${heading}</h1>`,
      ...content.paragraphs.map((paragraph) => `<p>${escapeHtml(paragraph)}</p>`),
      content.error === undefined ? '' : `<p><small>${content.error.code}</small></p>`,
      actionsOf(content),
      submitsItself(content) ? `<script>${SUBMIT}</script>` : '',
      '</main></body></html>'
    ].join('')
  }

  const policy: Layout['policy'] = ({ content, formAction = "'self'", isFramable = false }, { isFramed }, nonce) => {
    const [own, marked] = nonce === undefined ? [[], []] : [["'self'"], [`'nonce-${nonce}'`]]
    const images = nonce === undefined && brand.logo === undefined ? [] : ['data:']
    const sources: Record<string, readonly string[]> = {
      'default-src': ["'none'"],
      'img-src': [...own, ...images],
      'font-src': own,
      'style-src': [...own, ...marked, hashSource(style)],
      'script-src': [...marked, ...(submitsItself(content) ? [hashSource(SUBMIT)] : [])],
      'form-action': [formAction],
      'base-uri': ["'none'"],
      // A frame that may not show a page shows an error of the browser instead, which says nothing.
      'frame-ancestors': [isFramable && isFramed ? '*' : "'none'"]
    }
    const directives = Object.entries(sources).filter(([, values]) => values.length > 0)
    return directives.map(([name, values]) => `${name} ${values.join(' ')}`).join('; ')
  }

  return { html, policy }
}

function headerOf ({ name, logo, host }: Brand): string {
  const image = logo === undefined
    ? ''
    : `<img src="${escapeHtml(logo)}" alt="${name === undefined ? escapeHtml(host) : ''}">`
  const text = name === undefined ? '' : `<span>${escapeHtml(name)}</span>`
  return image + text === '' ? '' : `<header>${image}${text}</header>`
}

function submitsItself ({ continues, actions }: PageContent): boolean {
  return continues && actions[0]?.method === 'POST'
}

function refreshOf ({ continues, actions: [first] }: PageContent): string {
  return continues && first?.method === 'GET'
    ? `<meta http-equiv="refresh" content="0;url=${escapeHtml(first.url)}">`
    : ''
}

function actionsOf ({ kind, actions }: PageContent): string {
  const items = actions.map(actionOf)
  return kind === 'choose_provider'
    ? `<ul role="list">${items.map((item) => `<li>${item}</li>`).join('')}</ul>`
    : `<div>${items.join('')}</div>`
}

function actionOf ({ label, url, method, fields }: PageAction): string {
  const text = escapeHtml(label)
  if (method === 'GET') return `<a href="${escapeHtml(url)}">${text}</a>`
  return `<form method="post" action="${escapeHtml(url)}">${fields.map(hiddenField).join('')}<button>${text}</button></form>`
}

function hiddenField ({ name, value }: PageAction['fields'][number]): string {
  return `<input type="hidden" name="${escapeHtml(name)}" value="${escapeHtml(value)}">`
}

function escapeHtml (text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

function hashSource (content: string): string {
  return `'sha256-${sha256(content, 'base64')}'`
}
