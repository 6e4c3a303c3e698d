import type { PageOptions } from '../../types/options.ts'

// Texts have a contrast of at least 4.5 with what is behind them, borders and the mark of the focus one of at least 3
// (WCAG 2.2, sections 1.4.3 and 1.4.11).
const LIGHT = 'color-scheme:light;--page:#f3f5f8;--card:#fff;--text:#1c2128;--soft:#57606a;--line:#7d8590;' +
  '--main:#1f5fd0;--on:#fff'
const DARK = 'color-scheme:dark;--page:#0f1318;--card:#1a2028;--text:#e8ecf1;--soft:#a9b2bd;--line:#7d8792;' +
  '--main:#8ab4f8;--on:#0b1a33'

const THEMES: Record<NonNullable<PageOptions['theme']>, string> = {
  light: `:root{${LIGHT}}`,
  dark: `:root{${DARK}}`,
  auto: `:root{${LIGHT}}@media(prefers-color-scheme:dark){:root{${DARK}}}`
}

// It works from a width of 320 pixels, and where the user makes the text larger.
const STYLE = [
  ':root{font:1.0625rem/1.55 system-ui,sans-serif}',
  'body{margin:0;box-sizing:border-box;min-height:100vh;padding:1rem;display:flex;flex-direction:column;',
  'align-items:center;justify-content:center;gap:1.25rem;background:var(--page);color:var(--text);',
  'overflow-wrap:anywhere}',
  'header{display:flex;flex-wrap:wrap;align-items:center;justify-content:center;gap:.75rem;',
  'font-size:1.125rem;font-weight:600;text-align:center}',
  'img{height:3rem;max-width:100%;object-fit:contain}',
  'main{box-sizing:border-box;width:100%;max-width:30rem;padding:2rem;border-radius:1rem;background:var(--card);',
  'box-shadow:0 1px 2px #0003,0 8px 32px #0000001a;text-align:center}',
  'h1{margin:0;font-size:1.375rem;line-height:1.3;text-wrap:balance}',
  'p{margin:.75rem 0 0;color:var(--soft);text-wrap:balance}',
  'small{font:.8125rem ui-monospace,monospace}',
  'div,ul{display:flex;flex-wrap:wrap;justify-content:center;gap:.75rem;margin:1.5rem 0 0;padding:0;list-style:none}',
  'ul{flex-direction:column}',
  'form{margin:0}',
  'a,button{box-sizing:border-box;display:block;width:100%;padding:.625rem 1.5rem;border:1px solid var(--line);',
  'border-radius:.5rem;background:none;color:inherit;font:inherit;text-align:center;text-decoration:none;',
  'text-wrap:balance;cursor:pointer}',
  'div>a{width:auto}',
  'div>a:first-child,div>:first-child>button{border-color:var(--main);background:var(--main);color:var(--on)}',
  'a:hover,button:hover{text-decoration:underline}',
  ':focus-visible{outline:3px solid var(--text);outline-offset:3px}',
  '@media(max-width:30rem){main{padding:1.5rem 1.25rem}h1{font-size:1.25rem}div>*{flex:1 1 100%}}'
].join('')

export function styleOf (theme: NonNullable<PageOptions['theme']>): string {
  return THEMES[theme] + STYLE
}
