/** The response of an endpoint. */
export interface Answer {
  status: number
  headers: Record<string, string>
  body: string | Buffer | Iterable<Buffer>
}

const noStore = { 'cache-control': 'no-store' }

export const json = (value: unknown, status = 200, headers: Record<string, string> = {}): Answer => ({
  status,
  headers: { 'content-type': 'application/json', ...noStore, ...headers },
  body: JSON.stringify(value)
})

export const html = (body: string, status = 200, headers: Record<string, string> = {}): Answer => ({
  status,
  headers: { 'content-type': 'text/html; charset=utf-8', ...noStore, ...headers },
  body: `<!doctype html><meta charset="utf-8"><title>Provider</title>${body}`
})

export const redirect = (location: string, headers: Record<string, string> = {}): Answer =>
  ({ status: 302, headers: { location, ...noStore, ...headers }, body: '' })

export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)

/** An error that contains the response to send. */
export interface Refusal extends Error {
  answer: Answer
}

/** The error response of an OAuth endpoint (RFC 6749, section 5.2). */
export const refusal = (
  error: string, error_description: string, status = 400, headers: Record<string, string> = {}
): Refusal => Object.assign(new Error(error_description), {
  answer: json({ error, error_description }, status, headers)
})

export const isRefusal = (error: unknown): error is Refusal => error instanceof Error && 'answer' in error
