import { handler, serve } from './serve.ts'

serve(app => app.get('/', handler))
