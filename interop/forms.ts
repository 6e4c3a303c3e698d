import type { GotoOptions, Page, TestBrowser } from '../lib/testing/index.ts'

/** A form of a page, as a browser without JavaScript sees it. */
export interface Form {
  method: string
  action: URL
  /** The fields with their values, without the buttons. */
  fields: Map<string, string>
  buttons: Array<{ name: string, value: string }>
  html: string
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

const CONTROL = /<(?:input|button)\b[^>]*>/gi

export function decodeEntities (text: string): string {
  return text.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (entity, hex, decimal, name) => {
    if (hex ?? decimal) return String.fromCodePoint(hex ? parseInt(hex, 16) : Number(decimal))
    return entities[name] ?? entity
  })
}

export function attributeOf (tag: string, name: string): string | undefined {
  const found = new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([^\\s>]+))`, 'i').exec(tag)
  const value = found?.[1] ?? found?.[2] ?? found?.[3]
  return value === undefined ? undefined : decodeEntities(value)
}

export function formsOf (page: Page): Form[] {
  const text = page.text()
  return (text.match(/<form\b[^>]*>[^]*?<\/form>/gi) ?? []).map((html) => {
    const [head = ''] = /^<form\b[^>]*>/i.exec(html) ?? []
    const inside = html.match(CONTROL) ?? []
    const id = attributeOf(head, 'id')
    const outside = (text.match(CONTROL) ?? []).filter((tag) => id !== undefined && attributeOf(tag, 'form') === id)
    return {
      method: attributeOf(head, 'method')?.toUpperCase() ?? 'GET',
      action: new URL(attributeOf(head, 'action') || page.url, page.url),
      fields: new Map(inside.filter((tag) => !isButton(tag)).flatMap(pairOf)),
      buttons: [...inside, ...outside].filter(isButton).flatMap(pairOf).map(([name, value]) => ({ name, value })),
      html
    }
  })
}

function isButton (tag: string): boolean {
  return /^<button/i.test(tag) || /^(submit|image)$/i.test(attributeOf(tag, 'type') ?? '')
}

function pairOf (tag: string): Array<[string, string]> {
  const name = attributeOf(tag, 'name')
  const isOff = /^(checkbox|radio)$/i.test(attributeOf(tag, 'type') ?? '') && !/\schecked\b/i.test(tag)
  return name === undefined || isOff ? [] : [[name, attributeOf(tag, 'value') ?? '']]
}

/** Sends a form with these answers. `button` is the name of the button that the user presses. */
export async function submit (
  browser: TestBrowser,
  page: Page,
  form: Form,
  answers: Record<string, string> = {},
  button?: string
): Promise<Page> {
  const pressed = form.buttons.find(({ name }) => name === button)
  const known = Object.entries(answers).filter(([name]) => form.fields.has(name))
  const body = new URLSearchParams([...new Map([
    ...form.fields,
    ...known,
    ...pressed === undefined ? [] : [[pressed.name, pressed.value] as [string, string]]
  ])])
  const how: GotoOptions = { from: page.url }
  if (form.method === 'POST') return await browser.post(form.action.href, body, how)
  const url = new URL(form.action)
  url.search = body.toString()
  return await browser.goto(url.href, how)
}

/** The addresses of the frames in a page. */
export function framesOf (page: Page): string[] {
  return (page.text().match(/<iframe\b[^>]*>/gi) ?? [])
    .map((tag) => attributeOf(tag, 'src'))
    .filter((src) => src !== undefined)
    .map((src) => new URL(src, page.url).href)
}

/** The text of a page, for the message of a failure. */
export function textOf (page: Page): string {
  return page.text().replace(/<(style|script)\b[^]*?<\/\1>|<[^>]*>/gi, ' ').replace(/\s+/g, ' ').trim().slice(0, 300)
}
