import { parseJson } from '../util/json.ts'

/**
 * The JSON value of a response, or `undefined` when it has none. The body decides, whatever the content type says:
 * some providers send JSON as `text/plain`. A response that calls itself a page has no value.
 */
export async function readJson (response: Response): Promise<unknown> {
  return isHtml(response) ? undefined : parseJson(await response.text())
}

/** Whether a response is a page for people, such as that of a firewall or a proxy. */
export async function isPage (response: Response): Promise<boolean> {
  return isHtml(response) || /^\s*</.test(await response.text())
}

function isHtml ({ headers }: Response): boolean {
  return /^(?:text\/html|application\/xhtml\+xml)\b/i.test(headers.get('content-type') ?? '')
}
