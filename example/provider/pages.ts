import { html, layout, nothing, type Html } from '../html.ts'

// The pages of the embedded provider.

/** A page. It shows that it is not a page of the application. */
function providerPage (title: string, main: Html): string {
  return layout(title, html`
    <p class="owner">Demo provider</p>
    <section class="card narrow"><h1>${title}</h1>${main}</section>`)
}

export function signInPage (problem: string): string {
  return providerPage('Sign in', html`
      <p class="soft">to continue to the fastify-oidc examples</p>
      ${problem === '' ? nothing : html`<p class="bad" role="alert">${problem}</p>`}
      <form method="post">
        <label for="login">User name</label>
        <input id="login" name="login" autocomplete="username" autocapitalize="none" required autofocus>
        <button>Sign in</button>
        <button class="quiet" name="cancel" formnovalidate>Cancel</button>
      </form>
      <p class="soft">Enter any name. There are no passwords, because this provider is only for the examples. <code>alice</code> is an administrator.</p>`)
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
