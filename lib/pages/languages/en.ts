import { MESSAGES } from '../../errors.ts'
import type { PageTexts } from '../../../types/pages.ts'

/** English: what the log and JSON say of an error, and the texts around it. */
export const en: PageTexts = {
  ...MESSAGES,
  chooseProvider: 'How do you want to log in?',
  confirmLogout: 'Do you want to log out?',
  logOut: 'Log out',
  stayLoggedIn: 'Stay logged in',
  logInAgain: 'Log in again',
  useAnotherAccount: 'Use another account',
  backToStart: 'Back to the start',
  continue: 'Continue',
  loggingIn: 'Logging in',
  loggingOut: 'Logging out',
  loggedIn: 'You are logged in',
  loggedOut: 'You are logged out',
  returnToApplication: 'Return to the application',
  noCookies: 'This login cannot be completed, because your browser sent no cookies. Allow cookies for this site.',
  notAskedAgain: 'The identity provider did not ask you to log in again, as this page requires.',
  applicationUnavailable: 'This application is not available at the moment.',
  tryAgain: 'Please try again.',
  tryLater: 'Please try again in a few minutes.',
  goBack: 'Open the application again, and try it from there.',
  askForAccess: 'Use another account, or ask the support of this application for access.',
  contactSupport: 'If it happens again, contact the support of this application and give them this code:'
}
