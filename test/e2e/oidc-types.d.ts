// oidc-provider ships no types; as much of it as the tests use.
declare module "oidc-provider" {
  import type { IncomingMessage, RequestListener } from "node:http";

  interface Context {
    readonly req: IncomingMessage;
  }

  export default class Provider {
    constructor(issuer: string, configuration: object);
    callback(): RequestListener;
    on(event: string, listener: (context: Context, ...rest: unknown[]) => void): this;
  }
}
