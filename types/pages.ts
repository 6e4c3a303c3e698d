import type { FastifyRequest } from 'fastify'
import type { OidcError, OidcErrorCode } from '../lib/errors.ts'

/** The languages of the pages: the primary subtag of RFC 5646, section 2.2.1. */
export type PageLanguage = 'en' | 'de' | 'fr' | 'es' | 'pt' | 'it' | 'nl' | 'pl' | 'ja' | 'zh'

/** What a page is. A later version may add others. */
export type PageKind = 'error' | 'choose_provider' | 'confirm_logout' | 'logged_out' | 'continue'

/** The texts of the pages, in one language. The text of an error has the code of the error as its name. */
export interface PageTexts extends Record<OidcErrorCode, string> {
  /** The title of the page where the user chooses a provider. */
  chooseProvider: string
  /** The question before a logout that another site, or a link in a mail, has asked for. */
  confirmLogout: string
  /** The button that answers yes. */
  logOut: string
  /** The link that answers no. */
  stayLoggedIn: string
  /** The link to a new login. */
  logInAgain: string
  /** The link to a new login, after the account was refused. */
  useAnotherAccount: string
  /** The link to `defaultReturnTo`, where a new login does not help. */
  backToStart: string
  /** The link or the button of a page that goes on by itself. */
  continue: string
  /** The title of a page that goes on to the provider, to log in. */
  loggingIn: string
  /** The title of a page that goes on to the provider, to log out. */
  loggingOut: string
  /** The title of a page that goes on to the application, with `session.sameSite` `strict`. */
  loggedIn: string
  /** The title of the page after a logout. */
  loggedOut: string
  /** The title of a page that goes on to an application on the user's own machine. */
  returnToApplication: string
  /** In place of `FST_OIDC_STATE`, where the browser sent no cookies at all. */
  noCookies: string
  /** In place of `FST_OIDC_ID_TOKEN`, where the provider has ignored `max_age` or `acr_values`. */
  notAskedAgain: string
  /** In place of `FST_OIDC_UNEXPECTED`, where a hook of the application failed with an outage. */
  applicationUnavailable: string
  /** What the user can do about an error. An empty text leaves this sentence out, as for the next four. */
  tryAgain: string
  /** Where something does not answer at the moment. */
  tryLater: string
  /** Where the user sent something that this address does not take. */
  goBack: string
  /** Where the account has no access. */
  askForAccess: string
  /** Where only an operator can help. The code of the error stands below. */
  contactSupport: string
}

/** Replaced texts: for all languages, and for single ones, which win. */
export type PageMessages = Partial<PageTexts> & { [language in PageLanguage]?: Partial<PageTexts> }

/** A link of a page, or a form with one button. */
export interface PageAction {
  /** The text of the link or of the button. */
  label: string
  url: string
  /** `GET`: a link. `POST`: a form with `fields`. */
  method: 'GET' | 'POST'
  /** The hidden fields of the form. */
  fields: ReadonlyArray<{ name: string, value: string }>
}

/** What a page shows. All of it is plain text: whatever makes HTML of it must escape it. */
export interface PageContent {
  kind: PageKind
  title: string
  /** Sentences below the title: what the user can do about an error. */
  paragraphs: readonly string[]
  /** The links and buttons, the most important one first. */
  actions: readonly PageAction[]
  /** Whether the browser goes on with the first action by itself, as soon as it shows the page. */
  continues: boolean
  /** The error that the page is about. `code`, `statusCode` and `message` are safe to show. */
  error?: OidcError
}

/** The page that `pages.render` renders. */
export interface OidcPage extends PageContent {
  language: PageLanguage
  /** All texts in that language, with those of `messages`. */
  texts: Readonly<PageTexts>
  request: FastifyRequest
  /**
   * For `<style nonce="…">` and `<script nonce="…">`: the Content-Security-Policy allows no other script, and beside it
   * styles, images and fonts of the own origin.
   */
  nonce: string
  /** The page as the plugin would send it. */
  html: string
}
