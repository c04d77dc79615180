import type { Secret } from "../../tokens/secret.ts";
import type { Connection } from "../connection.ts";

/** A simulated provider and a sidecar beside it, as the demo and the tour see them. */
export interface Stage {
  readonly data: Connection;
  readonly admin: Connection;
  /** `host:port` of the HTTP listener. */
  readonly http: string;
  readonly sockets: { readonly data: string; readonly admin: string };
  /** How this program is started from a shell. */
  readonly program: string;
  readonly vendor: {
    readonly url: string;
    readonly port: number;
    /** A grant as a customer's consent gives it. `expired`: its access token has ended already. */
    grant(
      subject: string,
      expired: boolean,
    ): { readonly accessToken: Secret; readonly refreshToken: Secret; readonly expiresAtMs: number };
    /** As when the customer removes the app. */
    revoke(subject: string): void;
    tokenRequests(): number;
  };
  /** Proves the audit trail's chain. */
  readonly say: (line: string) => void;
}

export const PROVIDER = "simulator";
export const CLIENT = "main";
