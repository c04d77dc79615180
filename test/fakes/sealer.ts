import { KeyturnError } from "../../src/errors.ts";
import type { Rewrapper } from "../../src/tokens/rewrap.ts";
import type { PreparedSeal, SealContext, Sealed } from "../../src/tokens/sealing.ts";
import { Trouble } from "./trouble.ts";

/** Seals with nothing, but binds to its context as the real one does, and counts data keys in memory. */
export class FakeSealer implements Rewrapper {
  readonly trouble = new Trouble();
  /** Version of the KEK that seals now. */
  kekVersion = 1;
  /** Data keys neither used nor wiped. */
  outstanding = 0;
  calls = 0;

  async prepare(context: SealContext): Promise<PreparedSeal> {
    await this.#ask();
    this.outstanding += 1;
    let isOver = false;
    const over = () => {
      if (!isOver) this.outstanding -= 1;
      isOver = true;
    };
    const { kekVersion } = this;
    return {
      kekVersion,
      discard: over,
      seal: (of, plaintext) => {
        if (isOver) throw new Error("a data key was used twice, or after it had been wiped");
        if (textOf(of) !== textOf(context)) throw new Error("sealed for another context than prepared for");
        over();
        return {
          format: 1,
          kekId: "fake:/",
          kekVersion,
          wrappedDek: new Uint8Array(),
          iv: new Uint8Array(),
          ciphertext: Buffer.from(plaintext),
          tag: Buffer.from(textOf(of)),
        };
      },
    };
  }

  async open(context: SealContext, sealed: Sealed): Promise<Buffer> {
    await this.#ask();
    if (Buffer.from(sealed.tag).toString() !== textOf(context))
      throw new KeyturnError("SEAL_INVALID", "sealed for another context");
    return Buffer.from(sealed.ciphertext);
  }

  async rewrap(sealed: Sealed): Promise<Sealed | undefined> {
    await this.#ask();
    return sealed.kekVersion === this.kekVersion ? undefined : { ...sealed, kekVersion: this.kekVersion };
  }

  async #ask(): Promise<void> {
    this.calls += 1;
    await this.trouble.pass();
  }
}

function textOf({ kind, tenant, id, incarnation, slot, generation }: SealContext): string {
  return JSON.stringify([kind, tenant, id, incarnation, slot, generation]);
}
