/** A sealed value: AES-256-GCM under a data key of its own, that key wrapped by the KEK. */
export interface Sealed {
  readonly format: 1;
  /** Backend, mount and key name of the KEK, as one string: `local:/default`, `vault-transit:/transit/keyturn`. */
  readonly kekId: string;
  readonly kekVersion: number;
  readonly wrappedDek: Uint8Array;
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array;
}

/**
 * What a sealed value belongs to; authenticated with it, so that a ciphertext copied to another row, tenant or
 * generation does not open. Always built from the account's record, never from the sealed one. The environment and the
 * format version are added by the sealer.
 */
export interface SealContext {
  readonly kind: "credential" | "answer" | "client_secret" | "authorization" | "content_key";
  readonly tenant: string;
  /** Account id, or `provider/client`. */
  readonly id: string;
  /** Incarnation of the account; the attempt id is appended for a kept answer. */
  readonly incarnation: string;
  readonly slot: string;
  readonly generation: number;
}

/** Who wants something opened and what for; goes to the audit trail with every KEK operation. */
export interface Actor {
  /** A caller token's name, `uds`, or `keyturn` for our own work. */
  readonly caller: string;
  readonly purpose: string;
}

/** A data key that the KEK has wrapped already, for one value: sealing needs no neighbour any more. */
export interface PreparedSeal {
  /** Version of the KEK that has wrapped the data key. */
  readonly kekVersion: number;
  /** Seals once and wipes the data key. */
  seal(context: SealContext, plaintext: Uint8Array): Sealed;
  /** Wipes an unused data key. Harmless after `seal`. */
  discard(): void;
}

/** Envelope encryption. KEK_UNAVAILABLE within 5 s, SEAL_INVALID and KEK_MISMATCH are its only errors. */
export interface Sealer {
  /** Wraps a fresh data key: the one KEK call of a seal. The context is for the audit record. */
  prepare(context: SealContext, actor: Actor): Promise<PreparedSeal>;
  /** The plain bytes, which the caller fills with zero. SEAL_INVALID when altered or made for another context. */
  open(context: SealContext, sealed: Sealed, actor: Actor): Promise<Buffer>;
}
