// oidc-provider has no types. These cover only the parts that the example and the tests use.
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http'

  /** What the provider needs from the user before it continues. */
  export interface Interaction {
    prompt: { name: string }
    params: { client_id: string, scope?: string, resource?: string | string[] }
    session?: { accountId: string }
    grantId?: string
  }

  export interface Grant {
    addOIDCScope (scope: string): void
    addResourceScope (resource: string, scope: string): void
    save (): Promise<string>
  }

  export class Provider {
    constructor (issuer: string, configuration: Record<string, unknown>)
    Grant: {
      new (properties: { accountId: string, clientId: string }): Grant
      find (id: string): Promise<Grant>
    }

    callback (): (request: IncomingMessage, response: ServerResponse) => void
    interactionDetails (request: IncomingMessage, response: ServerResponse): Promise<Interaction>
    interactionFinished (
      request: IncomingMessage,
      response: ServerResponse,
      result: Record<string, unknown>
    ): Promise<void>
  }

  /** The Koa context that the provider's page functions get. */
  export interface Context {
    body: string
    type: string
  }
}

declare module 'oidc-provider/lib/adapters/memory_adapter.js' {
  export interface Adapter {
    upsert (id: string, payload: Record<string, unknown>): Promise<void>
  }
  export function createMemoryAdapter (): (model: string) => Adapter
}
