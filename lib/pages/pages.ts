import { errorText } from './error-texts.ts'
import type { OidcError } from '../errors.ts'
import type { PageAction, PageContent, PageTexts } from '../../types/pages.ts'

// What each page says and offers. To add a page: a function here, its kind and its texts in types/pages.ts, and the
// texts in each file of languages/.

/** A page in one language, and what browsers must allow it. */
export interface Page {
  content: PageContent
  /** To which origins its form may be posted. Default: the own one. */
  formAction?: string
  referrerPolicy?: string
  /** Whether another site may show it in a frame: a click on it does no harm. */
  isFramable?: boolean
  /** Whether its links leave a frame that shows it. */
  leavesFrame?: boolean
}

export type PageOf = (texts: Readonly<PageTexts>) => Page

/** A link with one of the texts. */
export interface TextLink {
  url: string
  text: keyof PageTexts
}

// Browsers apply form-action also to redirects after the form: to the provider, and to the providers behind it.
const ANYWHERE = '*'

export function errorPage (error: OidcError, { url, text }: TextLink): PageOf {
  return (texts) => ({
    content: {
      kind: 'error',
      ...errorText(error, texts),
      actions: [link(url, texts[text])],
      continues: false,
      error
    },
    isFramable: true,
    // In a frame, browsers may block the cookies of a login, and providers refuse to show their page.
    leavesFrame: true
  })
}

/** Offers the providers with which the user can log in. */
export function choicePage (choices: ReadonlyArray<{ url: string, label: string }>): PageOf {
  return ({ chooseProvider }) => ({
    content: {
      kind: 'choose_provider',
      title: chooseProvider,
      paragraphs: [],
      actions: choices.map(({ url, label }) => link(url, label)),
      continues: false
    }
  })
}

/** Asks the user before the logout, because the request did not come from a page of the application. */
export function confirmLogoutPage (action: string, stay: string): PageOf {
  return ({ confirmLogout, logOut, stayLoggedIn }) => ({
    content: {
      kind: 'confirm_logout',
      title: confirmLogout,
      paragraphs: [],
      actions: [form(action, logOut), link(stay, stayLoggedIn)],
      continues: false
    },
    formAction: ANYWHERE,
    // Without a referrer, a browser that does not send Sec-Fetch-Site would not say where the form comes from.
    referrerPolicy: 'same-origin'
  })
}

/** Says that the user is logged out, where no page of the application does. */
export function loggedOutPage (links: readonly TextLink[]): PageOf {
  return (texts) => ({
    content: {
      kind: 'logged_out',
      title: texts.loggedOut,
      paragraphs: [],
      actions: links.map(({ url, text }) => link(url, texts[text])),
      continues: false
    }
  })
}

/** Continues with a new request from this page: it is no redirect of the request before. */
export function continuePage (url: string, title: keyof PageTexts): PageOf {
  return (texts) => ({
    content: {
      kind: 'continue',
      title: texts[title],
      paragraphs: [],
      actions: [link(url, texts.continue)],
      continues: true
    },
    isFramable: true
  })
}

/** Posts the query of a URL, if it is too long for a redirect. */
export function postPage (url: URL, title: keyof PageTexts): PageOf {
  const fields = [...url.searchParams].map(([name, value]) => ({ name, value }))
  return (texts) => ({
    content: {
      kind: 'continue',
      title: texts[title],
      paragraphs: [],
      actions: [form(url.origin + url.pathname, texts.continue, fields)],
      continues: true
    },
    formAction: ANYWHERE
  })
}

function link (url: string, label: string): PageAction {
  return { label, url, method: 'GET', fields: [] }
}

function form (url: string, label: string, fields: PageAction['fields'] = []): PageAction {
  return { label, url, method: 'POST', fields }
}
