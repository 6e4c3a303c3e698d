import { answer, usage } from '../../dist/bench/answer.js'

/** Starts a server when the bench asks. `start` gets the options of the bench and returns a listening http.Server. */
export function serve (start) {
  answer({
    async listen (options) {
      const server = await start(options)
      if (!server.listening) await new Promise((resolve) => server.once('listening', resolve))
      return server.address().port
    },
    usage
  })
}

export const CLIENT = { id: 'bench', secret: 'a secret of the benchmark', baseUrl: 'https://app.example.com' }
export const ANONYMOUS = { sub: '00000000-0000-0000-0000-000000000000' }
