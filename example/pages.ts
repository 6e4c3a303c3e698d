import type { OidcClaims, OidcSession } from '../types/claims.ts'

/** A piece of HTML that is safe to insert into a page. */
export interface Html {
  html: string
}

/** The user of this application, as `onClaims` returns it. */
export interface User {
  name: string
  email: string
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

const nothing = html``

function layout (title: string, header: Html, main: Html): string {
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
  ${header}
  <main>
    ${main}
  </main>
</body>
</html>
`.html
}

/** A page of the application. Its header has the button to log in or out. */
function appPage (title: string, user: User | null, main: Html): string {
  const logInOrOut = user === null
    ? html`<a class="button" href="/auth/login?return_to=/me">Log in</a>`
    : html`<span class="soft">${user.name}</span><form method="post" action="/auth/logout"><button class="quiet">Log out</button></form>`
  const header = html`<header><a class="brand" href="/">fastify-oidc example</a><a href="/me">Me</a><a href="/admin">Admin</a><a href="/programs">Programs</a>${logInOrOut}</header>`
  return layout(title, header, main)
}

export function homePage (user: User | null): string {
  const greeting = user === null
    ? html`<h1>You are not logged in</h1><p class="lead">This page is public. The other pages need a login: they send you to the provider first.</p>`
    : html`<h1>Hello, ${user.name}</h1><p class="lead">You are logged in. Open the other pages, call the API, or log out again.</p>`
  return appPage('fastify-oidc example', user, html`
    ${greeting}
    <div class="cards">
      <section class="card"><h2>Your claims</h2><p class="soft">What the provider says about you.</p><a class="button quiet" href="/me">Open /me</a></section>
      <section class="card"><h2>Administration</h2><p class="soft">Only for users with the role <code>admin</code>.</p><a class="button quiet" href="/admin">Open /admin</a></section>
      <section class="card"><h2>JSON API</h2><p class="soft">Answers 401 without a session.</p><a class="button quiet" id="call-api" href="/api/hello">Call /api/hello</a></section>
    </div>
    <pre id="api-answer" role="status" hidden></pre>
    <script src="/script.js"></script>`)
}

export function mePage (user: User, { iss, sub, ...claims }: OidcClaims, session: OidcSession): string {
  return appPage('Your claims', user, html`
    <h1>${user.name}</h1>
    <p class="lead">${user.email}</p>
    <section class="card"><h2>Claims</h2>${table({ iss, sub, ...claims })}</section>
    <section class="card"><h2>Session</h2>${table({
      provider: session.provider,
      scopes: session.scopes.join(' '),
      ...(session.authTime === undefined ? {} : { 'signed in': dateText(session.authTime) }),
      started: dateText(session.loginTime),
      'ends at the latest': dateText(session.expiresAt)
    })}</section>`)
}

export function adminPage (user: User): string {
  return appPage('Administration', user, html`
    <h1>Administration</h1>
    <p class="lead">You see this page because one of your roles is <code>admin</code>.</p>`)
}

export function programsPage (user: User, baseUrl: string, ended?: number): string {
  return appPage('Programs', user, html`
    <h1>Programs</h1>
    ${ended === undefined ? nothing : html`<p class="lead" role="status">Ended logins of programs: ${String(ended)}</p>`}
    <p class="lead">A program on your computer can call the API for you, with tokens that this application issues.</p>
    <section class="card"><h2>Log a program in</h2><p class="soft">It shows a code. After you confirm the code at the provider, it prints what the API answers.</p><pre>node dist/example/cli.js ${baseUrl}</pre></section>
    <section class="card"><h2>Log all programs out</h2><p class="soft">Their tokens stop working at once.</p><form method="post" action="/programs/end"><button>End access</button></form></section>`)
}

export function notFoundPage (): string {
  return layout('Not found', nothing, html`
    <section class="card narrow low"><h1>Page not found</h1><p class="soft">Check the address.</p><a class="button" href="/">Go to the home page</a></section>`)
}

function table (values: Record<string, unknown>): Html {
  const rows = Object.entries(values).map(([name, value]) =>
    html`<tr><th scope="row">${name}</th><td>${typeof value === 'string' ? value : JSON.stringify(value)}</td></tr>`)
  return html`<table>${rows}</table>`
}

function dateText (seconds: number): string {
  return new Date(seconds * 1000).toUTCString()
}

/** A page of the embedded provider. It shows that it is not a page of the application. */
function providerPage (title: string, main: Html): string {
  return layout(title, nothing, html`
    <p class="owner">Demo provider</p>
    <section class="card narrow"><h1>${title}</h1>${main}</section>`)
}

export function signInPage (problem: string): string {
  return providerPage('Sign in', html`
      <p class="soft">to continue to the fastify-oidc example</p>
      ${problem === '' ? nothing : html`<p class="bad" role="alert">${problem}</p>`}
      <form method="post">
        <label for="login">User name</label>
        <input id="login" name="login" autocomplete="username" autocapitalize="none" required autofocus>
        <button>Sign in</button>
        <button class="quiet" name="cancel" formnovalidate>Cancel</button>
      </form>
      <p class="soft">Enter any name. There are no passwords, because this provider is only for the example. <code>alice</code> is an administrator.</p>`)
}

/** Asks whether to end the session at the provider as well. The provider creates `form`. */
export function signOutPage (form: string): string {
  return providerPage('Sign out here as well?', html`
      <p class="soft">The application has logged you out. You are still signed in at the provider.</p>
      ${{ html: form }}
      <button form="op.logoutForm" name="logout" value="yes" autofocus>Sign out</button>
      <button form="op.logoutForm" class="quiet">Stay signed in</button>`)
}

/** A step of a device login. The provider creates `form`. */
export function devicePage (title: string, text: string, form: string, go: string, formId: string): string {
  return providerPage(title, html`
      <p class="soft">${text}</p>
      ${{ html: form }}
      <button form="${formId}">${go}</button>`)
}

/** Any other message of the provider. */
export function messagePage (title: string, text: string, home: string): string {
  return providerPage(title, html`<p class="soft">${text}</p><a class="button" href="${home}">Go to the application</a>`)
}
