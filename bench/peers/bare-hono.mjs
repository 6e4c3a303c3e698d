import { serve as listen } from '@hono/node-server'
import { Hono } from 'hono'
import { ANONYMOUS, serve } from './serve.mjs'

serve(() => {
  const app = new Hono()
  app.get('/', (context) => context.json(ANONYMOUS))
  return listen({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' })
})
