import type { Secret } from "../tokens/secret.ts";

/** A data key as only its KEK can read it. */
export interface WrappedDek {
  /** Which version of the KEK wrapped it. */
  readonly version: number;
  readonly bytes: Uint8Array;
}

/**
 * The KEK calls an envelope needs. A backend throws KEK_UNAVAILABLE (with `metadata.cause`), KEK_MISMATCH for a version
 * it does not have or has retired, SEAL_INVALID for altered bytes; never with key material or a request in the error.
 * `signal` aborts when nobody waits for the answer any more.
 */
export interface KekCalls {
  /** Backend, mount and key name, as sealed values name it. */
  readonly id: string;
  /** Under the newest version. Keeps no reference to `dek`, which its owner wipes. */
  wrap(dek: Uint8Array, signal: AbortSignal): Promise<WrappedDek>;
  /** A fresh Buffer that the caller fills with zero. */
  unwrap(wrapped: WrappedDek, signal: AbortSignal): Promise<Buffer>;
  /** The same data key under the newest version; the version is unchanged when it was the newest already. */
  rewrap(wrapped: WrappedDek, signal: AbortSignal): Promise<WrappedDek>;
}

/** `active` wraps and unwraps, `retiring` still unwraps, `retired` refuses both. */
export type KekVersionState = "active" | "retiring" | "retired";

export interface KekStatus {
  /** The active version. */
  readonly newest: number;
  /** Oldest first. */
  readonly versions: readonly {
    readonly version: number;
    /** Undefined when the backend has forgotten it, as Transit does for retired versions. */
    readonly createdAtMs: number | undefined;
    readonly state: KekVersionState;
  }[];
}

/** A key-encryption key with its life. `authority` is the key administrator's credential, where the backend asks one. */
export interface Kek extends KekCalls {
  versions(): Promise<KekStatus>;
  /** Makes a new version, the only one that wraps from now on, and returns it. */
  rotate(authority?: Secret): Promise<number>;
  /** Refuses this and every older version from now on; key material stays. INVALID_REQUEST for the active one. */
  retire(version: number, authority?: Secret): Promise<void>;
}
