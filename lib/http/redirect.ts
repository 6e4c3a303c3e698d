import { continuePage } from '../pages/pages.ts'
import { wantsPage } from './fetch-metadata.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { PageTexts } from '../../types/pages.ts'
import type { Pages } from './pages.ts'

/** A redirect that no cache stores. The browser does not send the current address to the target. */
export function redirect (request: FastifyRequest, reply: FastifyReply, url: string): void {
  reply
    .header('cache-control', 'no-store')
    .header('referrer-policy', 'no-referrer')
    .redirect(url, request.method === 'GET' ? 302 : 303)
}

/**
 * A redirect to another origin. Browsers apply the policy `form-action` of a page also to the redirects after its form,
 * and @fastify/helmet allows only the own origin: a posted form is answered with a page that goes on by itself.
 */
export async function redirectAway (
  pages: Pages,
  reply: FastifyReply,
  url: string,
  title: keyof PageTexts
): Promise<void> {
  if (isPostedForm(reply.request)) await pages.send(reply, continuePage(url, title))
  else redirect(reply.request, reply, url)
}

// The three types that a form can have.
const FORM_TYPES = /^(?:application\/x-www-form-urlencoded|multipart\/form-data|text\/plain)\b/i

// Browsers send Origin with each form that they post.
function isPostedForm (request: FastifyRequest): boolean {
  const { method, headers } = request
  const isForm = method === 'POST' && FORM_TYPES.test(headers['content-type'] ?? '')
  return isForm && headers.origin !== undefined && wantsPage(request)
}
