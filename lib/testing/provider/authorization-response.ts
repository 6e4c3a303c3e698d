import { escapeHtml, html, redirect } from './answer.ts'
import { change } from './fault-effects.ts'
import type { Answer } from './answer.ts'
import type { Params } from './authorization-request.ts'
import type { Exchange } from './context.ts'

/** A page that posts its form by itself (OAuth 2.0 Form Post Response Mode, section 2). */
const formPost = (action: string, params: URLSearchParams): string => {
  const fields = [...params].map(([name, value]) =>
    `<input type="hidden" name="${escapeHtml(name)}" value="${escapeHtml(value)}">`)
  const form = `<form method="post" action="${escapeHtml(action)}">${fields.join('')}</form>`
  return `<body onload="document.forms[0].submit()">${form}`
}

const withParams = (uri: string, separator: string, params: URLSearchParams): string =>
  params.size > 0 ? `${uri}${uri.includes(separator) ? '&' : separator}${params}` : uri

interface Result {
  code?: string
  error?: string
  error_description?: string
}

const responseParams = ({ context, faults }: Exchange, { state }: Params, result: Result): URLSearchParams => {
  const fields = new URLSearchParams({ ...result, ...(state !== undefined && { state }), iss: context.issuer })
  return faults.reduce((value, fault) => change(value, fault.authorizationResponse), fields)
}

/** Sends the result to the redirect URI of the client, in the response mode that it asked for. */
export const respond = (
  exchange: Exchange, params: Params, result: Result, headers?: Record<string, string>
): Answer => {
  const changed = responseParams(exchange, params, result)
  const target = params.redirect_uri!
  if (params.response_mode === 'form_post') return html(formPost(target, changed), 200, headers)
  return redirect(withParams(target, params.response_mode === 'fragment' ? '#' : '?', changed), headers)
}
