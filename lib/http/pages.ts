import { hash } from 'node:crypto'
import type { FastifyReply } from 'fastify'
import type { OidcError } from '../errors.ts'

/** The few pages that the plugin shows itself: plain HTML, nothing from elsewhere, every value escaped. */

const STYLE =
  ':root{color-scheme:light dark;font:1.0625rem/1.6 system-ui,sans-serif}body{margin:0;min-height:100vh;display:grid;place-items:center}main{max-width:32rem;padding:2rem;text-align:center}h1{font-size:1.5rem;line-height:1.3;margin:0 0 .75rem;text-wrap:balance}p{margin:.5rem 0}small{opacity:.65}a,button{display:inline-block;margin:1.25rem .25rem 0;padding:.6rem 1.4rem;border:0;border-radius:.5rem;background:#1f5fd0;color:#fff;font:inherit;text-decoration:none;cursor:pointer}'
const SUBMIT = 'document.forms[0].submit()'
// Browsers hold the redirects that follow a form against form-action: they lead to the provider, and on to
// those that it asks.
const ANYWHERE = '*'

interface Page {
  title: string
  body: string
  head?: string
  script?: string
  formAction?: string
  referrerPolicy?: string
}

/** A way out of a page; `label` is HTML. */
export interface Exit {
  url: string
  label: string
}

export function errorPage (reply: FastifyReply, error: OidcError, exit: Exit): void {
  sendPage(reply, { title: error.message, body: `<p><small>${error.code}</small></p><p>${link(exit)}</p>` })
}

function link ({ url, label }: Exit): string {
  return `<a href="${escapeHtml(url)}">${label}</a>`
}

/** Offers the providers with which people can log in. */
export function choicePage (reply: FastifyReply, choices: Exit[]): void {
  const links = choices.map(({ url, label }) => `<p>${link({ url, label: escapeHtml(label) })}</p>`)
  sendPage(reply, { title: 'How do you want to log in?', body: links.join('') })
}

/** A page for a frame, which nobody sees; `framer` is the origin that may frame it. */
export function emptyPage (reply: FastifyReply, framer: string): void {
  reply
    .header('content-security-policy', `default-src 'none'; frame-ancestors ${framer}`)
    .header('cache-control', 'no-store')
    .type('text/html; charset=utf-8')
    .send('<!doctype html><title>Logged out</title>')
}

/** Asks before it logs out, because nobody on a page of the application has asked for it. */
export function confirmLogoutPage (reply: FastifyReply, action: string, stay: string): void {
  const body = `<form method="post" action="${escapeHtml(action)}"><button>Log out</button> ${link({ url: stay, label: 'Stay logged in' })}</form>`
  // Without a referrer, browsers that do not send Sec-Fetch-Site would not say where the form comes from either.
  sendPage(reply, { title: 'Do you want to log out?', body, formAction: ANYWHERE, referrerPolicy: 'same-origin' })
}

/** Posts parameters that are too long for a URL. */
export function postPage (reply: FastifyReply, url: URL): void {
  const fields = [...url.searchParams].map(
    ([name, value]) => `<input type="hidden" name="${escapeHtml(name)}" value="${escapeHtml(value)}">`
  )
  const action = escapeHtml(url.origin + url.pathname)
  const body = `<form method="post" action="${action}">${fields.join('')}<button>Continue</button></form><script>${SUBMIT}</script>`
  sendPage(reply, { title: 'Logging out', body, script: SUBMIT, formAction: ANYWHERE })
}

/** Goes on by a request of the page's own, so that cookies with SameSite=Strict are sent again. */
export function continuePage (reply: FastifyReply, url: string): void {
  sendPage(reply, {
    title: 'You are logged in',
    body: `<p>${link({ url, label: 'Continue' })}</p>`,
    head: `<meta http-equiv="refresh" content="0;url=${escapeHtml(url)}">`
  })
}

function sendPage (
  reply: FastifyReply,
  { title, body, head = '', script, formAction = "'self'", referrerPolicy = 'no-referrer' }: Page
): void {
  const scripts = script === undefined ? '' : `; script-src '${hashOf(script)}'`
  reply
    .header(
      'content-security-policy',
      `default-src 'none'; img-src data:; style-src '${hashOf(STYLE)}'; form-action ${formAction}; base-uri 'none'; frame-ancestors 'none'${scripts}`
    )
    .header('cache-control', 'no-store')
    .header('x-content-type-options', 'nosniff')
    .header('referrer-policy', referrerPolicy)
    .type('text/html; charset=utf-8')
    .send(
      `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><title>${escapeHtml(title)}</title>${head}<style>${STYLE}</style></head><body><main><h1>${escapeHtml(title)}</h1>${body}</main></body></html>`
    )
}

function hashOf (content: string): string {
  return `sha256-${hash('sha256', content, 'base64')}`
}

export function escapeHtml (text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
