import { sha256 } from '../util/crypto.ts'
import { isFramed } from './fetch-metadata.ts'
import type { FastifyReply } from 'fastify'
import type { OidcError } from '../errors.ts'

// The pages of the plugin are plain HTML. They load nothing from other origins, and every value is escaped.

/** A link that leads away from a page. `label` is HTML. */
export interface Exit {
  url: string
  label: string
}

interface Page {
  title: string
  body: string
  head?: string
  script?: string
  formAction?: string
  referrerPolicy?: string
  /** Whether another site may show it in a frame: a click on it does no harm. */
  isFramable?: boolean
}

const STYLE = [
  ':root{color-scheme:light dark;font:1.0625rem/1.6 system-ui,sans-serif}',
  'body{margin:0;min-height:100vh;display:grid;place-items:center}',
  'main{max-width:32rem;padding:2rem;text-align:center}',
  'h1{font-size:1.5rem;line-height:1.3;margin:0 0 .75rem;text-wrap:balance}',
  'p{margin:.5rem 0}',
  'small{opacity:.65}',
  'a,button{display:inline-block;margin:1.25rem .25rem 0;padding:.6rem 1.4rem;border:0;border-radius:.5rem;',
  'background:#1f5fd0;color:#fff;font:inherit;text-decoration:none;cursor:pointer}'
].join('')
const SUBMIT = 'document.forms[0].submit()'
// Browsers apply form-action also to redirects after the form: to the provider, and to the providers behind it.
const ANYWHERE = '*'

export function errorPage (reply: FastifyReply, error: OidcError, exit: Exit): void {
  // In a frame, browsers may block the cookies of a login, and providers refuse to show their page.
  const head = isFramed(reply.request) ? '<base target="_blank">' : ''
  const body = `<p><small>${error.code}</small></p><p>${link(exit)}</p>`
  sendPage(reply, { title: error.message, body, head, isFramable: true })
}

/** Offers the providers with which the user can log in. */
export function choicePage (reply: FastifyReply, choices: Exit[]): void {
  const links = choices.map(({ url, label }) => `<p>${link({ url, label: escapeHtml(label) })}</p>`)
  sendPage(reply, { title: 'How do you want to log in?', body: links.join('') })
}

/** A page in a hidden frame. `framer` is the origin that may frame it. */
export function emptyPage (reply: FastifyReply, framer: string): void {
  reply
    .header('content-security-policy', `default-src 'none'; frame-ancestors ${framer}`)
    .header('cache-control', 'no-store')
    .type('text/html; charset=utf-8')
    .send('<!doctype html><title>Logged out</title>')
}

/** Asks the user before the logout, because the request did not come from a page of the application. */
export function confirmLogoutPage (reply: FastifyReply, action: string, stay: string): void {
  const buttons = `<button>Log out</button> ${link({ url: stay, label: 'Stay logged in' })}`
  const body = `<form method="post" action="${escapeHtml(action)}">${buttons}</form>`
  // Without a referrer, a browser that does not send Sec-Fetch-Site would not say where the form comes from.
  sendPage(reply, { title: 'Do you want to log out?', body, formAction: ANYWHERE, referrerPolicy: 'same-origin' })
}

/** Posts the query of a URL, if it is too long for a redirect. */
export function postPage (reply: FastifyReply, url: URL): void {
  const action = escapeHtml(url.origin + url.pathname)
  const fields = [...url.searchParams].map(([name, value]) => hiddenField(name, value))
  const form = `<form method="post" action="${action}">${fields.join('')}<button>Continue</button></form>`
  const body = `${form}<script>${SUBMIT}</script>`
  sendPage(reply, { title: 'Logging out', body, script: SUBMIT, formAction: ANYWHERE })
}

/** Continues with a new request from this page: it is no redirect of the request before. */
export function continuePage (reply: FastifyReply, url: string, title: string): void {
  sendPage(reply, {
    title,
    body: `<p>${link({ url, label: 'Continue' })}</p>`,
    head: `<meta http-equiv="refresh" content="0;url=${escapeHtml(url)}">`,
    isFramable: true
  })
}

function escapeHtml (text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

function link ({ url, label }: Exit): string {
  return `<a href="${escapeHtml(url)}">${label}</a>`
}

function hiddenField (name: string, value: string): string {
  return `<input type="hidden" name="${escapeHtml(name)}" value="${escapeHtml(value)}">`
}

function sendPage (reply: FastifyReply, page: Page): void {
  reply
    .header('content-security-policy', policyOf(page, isFramed(reply.request)))
    .header('cache-control', 'no-store')
    .header('x-content-type-options', 'nosniff')
    .header('referrer-policy', page.referrerPolicy ?? 'no-referrer')
    .type('text/html; charset=utf-8')
    .send(htmlOf(page))
}

// A frame that may not show a page shows an error of the browser instead, which says nothing.
function policyOf ({ script, formAction = "'self'", isFramable = false }: Page, isFramed: boolean): string {
  const directives = [
    "default-src 'none'", 'img-src data:', `style-src '${hashSource(STYLE)}'`, `form-action ${formAction}`,
    "base-uri 'none'", `frame-ancestors ${isFramable && isFramed ? ANYWHERE : "'none'"}`
  ]
  if (script !== undefined) directives.push(`script-src '${hashSource(script)}'`)
  return directives.join('; ')
}

function hashSource (content: string): string {
  return `sha256-${sha256(content, 'base64')}`
}

function htmlOf ({ title, body, head = '' }: Page): string {
  const heading = escapeHtml(title)
  return [
    '<!doctype html><html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">',
    `<title>${heading}</title>${head}<style>${STYLE}</style></head>`,
    `<body><main><h1>${heading}</h1>${body}</main></body></html>`
  ].join('')
}
