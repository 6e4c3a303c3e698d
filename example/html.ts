/** A piece of HTML that is safe to insert into a page. */
export interface Html {
  html: string
}

type Piece = Html | Html[] | string

/** HTML from a template. Text is escaped; a value of type `Html` is not. */
export function html (strings: TemplateStringsArray, ...pieces: Piece[]): Html {
  return { html: String.raw({ raw: strings }, ...pieces.map(render)) }
}

function render (piece: Piece): string {
  if (typeof piece === 'string') return piece.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
  return Array.isArray(piece) ? piece.map(render).join('') : piece.html
}

export const nothing = html``

/** A page. It loads its style from `/style.css`. */
export function layout (title: string, main: Html): string {
  return html`<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>${title}</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/style.css">
</head>
<body>
  <main>
    ${main}
  </main>
</body>
</html>
`.html
}
