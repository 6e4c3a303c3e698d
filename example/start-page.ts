import Fastify, { type FastifyInstance } from 'fastify'
import { html, layout } from './html.ts'
import { css } from './style.ts'
import type { Example } from './examples.ts'

/** The page that lists all examples. `url` is `null` when the example has not started. */
export function buildStartPage (examples: Array<Example & { url: string | null }>): FastifyInstance {
  const cards = examples.map(({ name, title, sentence, url }) => html`
      <section class="card">
        <h2>${title}</h2>
        <p class="soft">${sentence} Its source is in <code>example/${name}/</code>.</p>
        ${url === null
          ? html`<p class="bad">Needs Node.js 22.13 or newer, for SQLite.</p>`
          : html`<a class="button quiet" href="${url}/">Open ${title}</a>`}
      </section>`)
  const page = layout('fastify-oidc examples', html`
    <h1>fastify-oidc examples</h1>
    <p class="lead">Each is an application of its own, small enough to copy. Log in with any name; <code>alice</code> is an administrator. There are no passwords.</p>
    <div class="cards">${cards}</div>`)
  const app = Fastify()
  app.get('/', (_request, reply) => reply.type('text/html').header('content-security-policy', POLICY).send(page))
  app.get('/style.css', (_request, reply) => reply.type('text/css').send(css))
  return app
}

const POLICY = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
