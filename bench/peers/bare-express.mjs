import express from 'express'
import { ANONYMOUS, serve } from './serve.mjs'

serve(() => {
  const app = express()
  app.get('/', (_request, response) => { response.json(ANONYMOUS) })
  return app.listen(0, '127.0.0.1')
})
