import { OidcError } from '../errors.ts'
import type { JWTPayload } from 'jose'

/** What an access token stands for: a user, or a client that acts for itself (RFC 6749, section 4.4). */
export type TokenSubject = 'user' | 'client'

export interface SubjectContext {
  /** The clients that act for themselves, from `bearer.clients`. */
  clients: readonly string[]
  /** The other clients of the issuer that are known here. */
  knownClients: readonly string[]
  /** Whether the claims come from introspection, where `client_id` is a member of every response (RFC 7662). */
  isIntrospected: boolean
}

/**
 * Whether a token stands for a user or a client. What users can choose, such as their name, may refuse a token and
 * never admits it as that of a client. Throws FST_OIDC_FORBIDDEN when the token is certain to be neither.
 */
export function subjectOf (claims: JWTPayload, context: SubjectContext): TokenSubject {
  const isNamed = claims.sub !== undefined || (clientOf(claims) !== undefined && !hasUsername(claims))
  if (isNamed && (hasClientSign(claims, context) || isListed(claims, context.clients))) return 'client'
  const reason = reasonNotUser(claims, context)
  if (reason === undefined) return 'user'
  const remedy = 'if it is of a client that acts for itself, name that client in "bearer.clients"'
  throw new OidcError('FST_OIDC_FORBIDDEN', { detail: `it is of neither a user nor a client: ${reason}; ${remedy}` })
}

/** The client that a token was issued to. */
export function clientOf (claims: JWTPayload): string | undefined {
  return clientsOf(claims)[0]
}

function clientsOf (claims: JWTPayload): string[] {
  const values = ['client_id', 'azp', 'cid', 'appid'].map((name) => claims[name])
  return values.filter((value) => typeof value === 'string')
}

// Providers say in different ways that a client acts for itself. No user can choose any of these signs.
function hasClientSign (claims: JWTPayload, { isIntrospected }: SubjectContext): boolean {
  return (
    isClientCredentials(claims['gty'] ?? claims['grant_type']) ||
    claims['idtyp'] === 'app' || // Microsoft Entra ID, where this optional claim is configured
    (isEntraApp(claims) && isConfidential(claims['azpacr'] ?? claims['appidacr'])) || // where it is not
    claims['aut'] === 'APPLICATION' || // WSO2
    (!isIntrospected && isKeycloakClient(claims))
  )
}

// Auth0, FusionAuth, ForgeRock
function isClientCredentials (grant: unknown): boolean {
  const grants: unknown[] = [grant].flat()
  return grants.length > 0 && grants.every((name) => name === 'client_credentials' || name === 'client-credentials')
}

/** Microsoft Entra ID: `sub` differs from client to client for a user, and delegated tokens have `scp`. */
function isEntraApp ({ sub, oid, scp }: JWTPayload): boolean {
  return sub !== undefined && oid === sub && scp === undefined
}

function isConfidential (authentication: unknown): boolean {
  return authentication === '1' || authentication === '2'
}

/**
 * Keycloak adds `client_id` to `azp` when a client logs itself in, and no time of a login. WSO2 has both for users as
 * well, beside `aut`.
 */
function isKeycloakClient (claims: JWTPayload): boolean {
  const { client_id: clientId, azp, auth_time: authTime, aut } = claims
  const isLogin = authTime !== undefined || aut !== undefined
  if (typeof azp !== 'string' || clientId !== azp || isLogin) return false
  return namesAccessToken(claims) || claims['clientAddress'] !== undefined || isServiceAccount(claims, azp)
}

/** Whether a claim says that the token is an access token: Keycloak's mark. */
export function namesAccessToken ({ typ }: JWTPayload): boolean {
  return typeof typ === 'string' && /^(?:bearer|dpop)$/i.test(typ)
}

const SERVICE_ACCOUNT = 'service-account-'

// Keycloak
function isServiceAccount (claims: JWTPayload, clientId: string): boolean {
  return namesOf(claims).includes(SERVICE_ACCOUNT + clientId.toLowerCase())
}

function namesOf ({ preferred_username: preferred, username }: JWTPayload): string[] {
  return [preferred, username].map((name) => String(name).toLowerCase())
}

function hasUsername ({ username }: JWTPayload): boolean {
  return typeof username === 'string' && username !== ''
}

// Where a token does not name its client, as that of Spring Authorization Server, its audience does.
function isListed (claims: JWTPayload, clients: readonly string[]): boolean {
  const named = clientOf(claims) ?? audiencesOf(claims).find((audience) => audience === claims.sub)
  if (named === undefined || !clients.includes(named)) return false
  const { sub = named } = claims
  return sub === named || sub === `${named}@clients` || isServiceAccount(claims, named)
}

/** Why a token cannot be of a user. */
function reasonNotUser (claims: JWTPayload, { clients, knownClients }: SubjectContext): string | undefined {
  const { sub } = claims
  if (sub === undefined) return hasUsername(claims) ? 'it has a username and no sub' : 'it has no sub'
  if (clientsOf(claims).includes(sub)) return 'sub is the client that it was issued to'
  if (audiencesOf(claims).includes(sub)) return 'sub is one of the audiences'
  if (clients.includes(sub) || knownClients.includes(sub)) return 'sub is the identifier of a client'
  if (sub.endsWith('@clients')) return 'sub ends as that of a client at Auth0'
  const isService = namesOf(claims).some((name) => name.startsWith(SERVICE_ACCOUNT))
  if (isService) return 'it has the name of a service account at Keycloak'
  return isEntraApp(claims) ? 'oid is sub and scp is missing, as for an application in Microsoft Entra ID' : undefined
}

function audiencesOf ({ aud }: JWTPayload): string[] {
  return [aud ?? []].flat()
}
