import { randomBytes } from 'node:crypto'
import { preferredLanguage } from '../pages/accept-language.ts'
import { createLayout } from '../pages/layout.ts'
import { createTexts } from '../pages/texts.ts'
import { isFramed } from './fetch-metadata.ts'
import { addVary } from './headers.ts'
import type { FastifyReply } from 'fastify'
import type { Settings } from '../options/settings.ts'
import type { PageOf } from '../pages/pages.ts'
import type { OidcPage } from '../../types/pages.ts'

/** Sends the pages of the plugin to browsers. */
export interface Pages {
  /** In the language of the user. Sets no status. */
  send: (reply: FastifyReply, pageOf: PageOf) => Promise<void>
}

export function createPages ({ pages }: Pick<Settings, 'pages'>): Pages {
  const { language: fixedLanguage, messages, render, ...brand } = pages
  const textsOf = createTexts(messages)
  const layout = createLayout(brand)

  async function send (reply: FastifyReply, pageOf: PageOf): Promise<void> {
    const { request } = reply
    const language = fixedLanguage ?? preferredLanguage(request.headers['accept-language'])
    const texts = await textsOf(language)
    const page = pageOf(texts)
    const view = { language, isFramed: isFramed(request) }
    const html = layout.html(page, view)
    const nonce = randomBytes(16).toString('base64')
    const own = await renderOwn({ ...page.content, language, texts, request, nonce, html })
    if (fixedLanguage === undefined) addVary(reply, 'Accept-Language')
    reply
      .header('content-security-policy', layout.policy(page, view, own === null ? undefined : nonce))
      .header('content-language', language)
      .header('cache-control', 'no-store')
      .header('x-content-type-options', 'nosniff')
      .header('referrer-policy', page.referrerPolicy ?? 'no-referrer')
      .type('text/html; charset=utf-8')
      .send(own ?? html)
  }

  /** The page of the application. `null`: there is none, and the page of the plugin is sent. */
  async function renderOwn (page: OidcPage): Promise<string | null> {
    if (render === undefined) return null
    try {
      const html: unknown = await render(page)
      if (typeof html === 'string' && html !== '') return html
      throw new TypeError('it returned no text')
    } catch (failure) {
      page.request.log.error({ err: failure, page: page.kind }, '"pages.render" failed: the page of the plugin is sent')
      return null
    }
  }

  return { send }
}

/** A page in a hidden frame. `framer` is the origin that may frame it. */
export function sendEmptyPage (reply: FastifyReply, framer: string): void {
  reply
    .header('content-security-policy', `default-src 'none'; frame-ancestors ${framer}`)
    .header('cache-control', 'no-store')
    .type('text/html; charset=utf-8')
    .send('<!doctype html><html lang="en"><title>Logged out</title>')
}
