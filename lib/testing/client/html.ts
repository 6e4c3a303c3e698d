/** A form that a page submits by script, or the target of a refresh. */
export interface PageForm {
  method: 'GET' | 'POST'
  action: URL
  fields: URLSearchParams
}

const named: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

const entities = /&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi

const decode = (text: string): string => text.replace(entities, (entity, hex, dec, name) => {
  if (hex ?? dec) return String.fromCodePoint(hex ? parseInt(hex, 16) : Number(dec))
  return named[name] ?? entity
})

const attribute = (tag: string, name: string): string | undefined => {
  const found = new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([^\\s>]+))`, 'i').exec(tag)
  const value = found?.[1] ?? found?.[2] ?? found?.[3]
  return value === undefined ? undefined : decode(value)
}

const fieldsOf = (form: string): URLSearchParams => {
  const fields = new URLSearchParams()
  for (const tag of form.match(/<input\b[^>]*>/gi) ?? []) {
    const name = attribute(tag, 'name')
    if (name) fields.append(name, attribute(tag, 'value') ?? '')
  }
  return fields
}

const findForm = (html: string, url: URL): PageForm | undefined => {
  const form = /<form\b[^>]*>[^]*?<\/form>/i.exec(html)?.[0]
  if (!form || !/\.submit\(\)/.test(html)) return
  const method = /^post$/i.test(attribute(form, 'method') ?? '') ? 'POST' : 'GET'
  return { method, action: new URL(attribute(form, 'action') || url, url), fields: fieldsOf(form) }
}

const findRefresh = (html: string, url: URL): PageForm | undefined => {
  const tag = /<meta\b[^>]*http-equiv=["']?refresh["']?[^>]*>/i.exec(html)?.[0]
  const target = /^\s*0\s*[;,]\s*url\s*=\s*['"]?([^'"]*)/i.exec(tag ? attribute(tag, 'content') ?? '' : '')?.[1]
  if (target !== undefined) return { method: 'GET', action: new URL(target, url), fields: new URLSearchParams() }
}

/** Where a page goes without the user: a form that a script submits, or a refresh without delay. */
export const findMove = (html: string, url: URL): PageForm | undefined => findForm(html, url) ?? findRefresh(html, url)
