import * as bearer from './bearer.ts'
import * as login from './login.ts'
import * as logout from './logout.ts'
import * as secrets from './secrets.ts'
import * as tokens from './tokens.ts'
import type { Behaviour } from './behaviour.ts'

/** The rows of the matrix, in the order in which they run. */
export const behaviours = {
  'log in': login.logIn,
  'guarded page': login.guardedPage,
  roles: login.roles,
  UserInfo: tokens.userinfo,
  refresh: tokens.refresh,
  'step-up': login.stepUp,
  'silent login': login.silentLogin,
  logout: logout.atProvider,
  'back-channel logout': logout.backChannel,
  'front-channel logout': logout.frontChannel,
  'bearer token': bearer.userToken,
  "client's token": bearer.clientToken,
  'DPoP token': bearer.boundToken,
  introspection: bearer.introspection,
  'device flow': tokens.deviceFlow,
  'wrong secret': secrets.wrongSecret,
  'refused consent': login.refusedConsent,
  'odd secret': secrets.oddSecret
} as const satisfies Record<string, Behaviour>

export type BehaviourName = keyof typeof behaviours
