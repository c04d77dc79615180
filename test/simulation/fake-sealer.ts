import { KeyturnError } from "../../src/errors.ts";
import type { PreparedSeal, SealContext, Sealed, Sealer } from "../../src/tokens/sealing.ts";
import type { Process } from "./machine.ts";
import type { Weather } from "./weather.ts";

/** Sealed with nothing, but bound to its context as the real one is. */
export class FakeSealer implements Sealer {
  readonly #process: Process;
  readonly #weather: Weather;
  /** Data keys in memory, neither used nor wiped. */
  outstanding = 0;

  constructor(process: Process, weather: Weather) {
    this.#process = process;
    this.#weather = weather;
  }

  async prepare(context: SealContext): Promise<PreparedSeal> {
    await this.#ask();
    this.outstanding += 1;
    let state: "ready" | "over" = "ready";
    const over = () => {
      if (state === "ready") this.outstanding -= 1;
      state = "over";
    };
    return {
      kekVersion: 1,
      discard: over,
      seal: (of, plaintext) => {
        if (state === "over") throw new Error("a data key was used twice or after it had been wiped");
        if (textOf(of) !== textOf(context)) throw new Error("sealed for another context than prepared for");
        over();
        return sealedOf(of, plaintext);
      },
    };
  }

  async open(context: SealContext, sealed: Sealed): Promise<Buffer> {
    await this.#ask();
    return openNow(context, sealed);
  }

  async #ask(): Promise<void> {
    const { host } = this.#process;
    host.pass("seal.asked");
    const isDown = this.#weather.isKekDown(host.name);
    if (isDown) host.chronicle.seen("KEK down");
    await this.#process.hear(isDown ? host.random.between(1, 5_000) : host.random.between(1, 4), () => {
      if (isDown) throw new KeyturnError("KEK_UNAVAILABLE", "the KEK does not answer");
    });
  }
}

export function sealedOf(context: SealContext, plaintext: Uint8Array): Sealed {
  return {
    format: 1,
    kekId: "fake:/simulation",
    kekVersion: 1,
    wrappedDek: new Uint8Array(),
    iv: new Uint8Array(),
    ciphertext: Buffer.from(plaintext),
    tag: Buffer.from(textOf(context)),
  };
}

/** SEAL_INVALID when sealed for another context. */
export function openNow(context: SealContext, sealed: Sealed): Buffer {
  if (Buffer.from(sealed.tag).toString() !== textOf(context)) {
    throw new KeyturnError("SEAL_INVALID", "sealed for another context");
  }
  return Buffer.from(sealed.ciphertext);
}

function textOf({ kind, tenant, id, incarnation, slot, generation }: SealContext): string {
  return JSON.stringify([kind, tenant, id, incarnation, slot, generation]);
}
