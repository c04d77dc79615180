/** One request to anybody outside, as this room hands it to the guarded way out. */
export interface Outbound {
  readonly method: string;
  readonly url: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Uint8Array | undefined;
  /** Exact hosts, and `*.domain` for everything below one. */
  readonly allowedHosts: string[];
  readonly allowLoopback: boolean;
  /** The operator permits private networks for this provider. */
  readonly allowPrivate: boolean;
  /** Shown when the server asks for one. */
  readonly clientCertificate?: { readonly chain: string; readonly key: string };
  /** On a connection of its own: a stale pooled one would leave doubt whether a single-use token was spent. */
  readonly fresh: boolean;
  readonly timeoutMs: number;
  readonly maxBodyBytes: number;
  /** Asked right before the first byte; false sends nothing. */
  readonly beforeFirstByte?: () => boolean;
  readonly signal?: AbortSignal;
}

export type Sent =
  | {
      readonly kind: "answer";
      readonly status: number;
      /** Lower-case names. */
      readonly headers: readonly (readonly [string, string])[];
      readonly body: Uint8Array;
      readonly requestedAtMs: number;
      readonly receivedAtMs: number;
    }
  | { readonly kind: "not_sent"; readonly cause: string }
  | { readonly kind: "unknown"; readonly cause: string };

/** The guarded way out. */
export type Send = (request: Outbound) => Promise<Sent>;

/** All that this room needs of the world. */
export interface Outside {
  readonly send: Send;
  /** Wall clock, epoch milliseconds. */
  readonly now: () => number;
}
