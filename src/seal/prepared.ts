import { KeyturnError } from "../errors.ts";
import type { PreparedSeal, SealContext, Sealed } from "../tokens/sealing.ts";
import { associatedData, SEAL_FORMAT } from "./aad.ts";
import type { WrappedDek } from "./kek.ts";
import { encryptPayload } from "./payload.ts";

/** Owns a data key from its wrap to its only use. */
export class Prepared implements PreparedSeal {
  readonly #dek: Buffer;
  readonly #wrapped: WrappedDek;
  readonly #kekId: string;
  readonly #environment: string;
  #used = false;

  constructor(dek: Buffer, wrapped: WrappedDek, kekId: string, environment: string) {
    this.#dek = dek;
    this.#wrapped = wrapped;
    this.#kekId = kekId;
    this.#environment = environment;
  }

  get kekVersion(): number {
    return this.#wrapped.version;
  }

  seal(context: SealContext, plaintext: Uint8Array): Sealed {
    // A second value under the same, by now wiped, key would be readable by anybody.
    if (this.#used) throw new KeyturnError("INTERNAL_ERROR", "A prepared seal seals one value only.");
    this.#used = true;
    try {
      const { iv, ciphertext, tag } = encryptPayload(
        this.#dek,
        associatedData(this.#environment, context),
        plaintext,
      );
      const { version: kekVersion, bytes: wrappedDek } = this.#wrapped;
      return { format: SEAL_FORMAT, kekId: this.#kekId, kekVersion, wrappedDek, iv, ciphertext, tag };
    } finally {
      this.#dek.fill(0);
    }
  }

  discard(): void {
    this.#used = true;
    this.#dek.fill(0);
  }
}
