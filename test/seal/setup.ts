import { join } from "node:path";
import { createSealer, type EnvelopeSealer, type KekAct } from "../../src/seal/envelope.ts";
import { openLocalKek } from "../../src/seal/kek/local.ts";
import type { Kek, KekCalls } from "../../src/seal/kek.ts";
import type { Actor, SealContext } from "../../src/tokens/sealing.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { ManualClock } from "../store/manual-clock.ts";

export const ACTOR: Actor = { caller: "reports", purpose: "get_token" };
export const PLAIN = Buffer.from("refresh-token-PLANTED-4711");

export const CONTEXT: SealContext = {
  kind: "credential",
  tenant: "tenant-1",
  id: "acme",
  incarnation: "incarnation-1",
  slot: "default",
  generation: 7,
};

export interface Sealing {
  readonly sealer: EnvelopeSealer;
  readonly kek: Kek;
  readonly file: string;
  readonly clock: ManualClock;
  /** Every call of the KEK. */
  readonly calls: string[];
  /** Every buffer that held a data key at the KEK's border. */
  readonly deks: Uint8Array[];
  readonly audited: KekAct[];
  /** The same KEK under another sealer. */
  inEnvironment(environment: string): EnvelopeSealer;
}

/** A sealer over the local KEK; `change` puts other calls in the place of its own. */
export async function sealing(
  change: (kek: KekCalls) => Partial<KekCalls> = () => ({}),
  audit: (act: KekAct) => Promise<void> = async () => undefined,
): Promise<Sealing> {
  const clock = new ManualClock();
  const file = join(tempFolder(), "keyring.json");
  const kek = await openLocalKek({ file, create: true }, clock);
  const calls: string[] = [];
  const deks: Uint8Array[] = [];
  const audited: KekAct[] = [];
  const watched: KekCalls = {
    id: kek.id,
    wrap(dek, signal) {
      calls.push("wrap");
      deks.push(dek);
      return kek.wrap(dek, signal);
    },
    async unwrap(wrapped, signal) {
      calls.push("unwrap");
      const dek = await kek.unwrap(wrapped, signal);
      deks.push(dek);
      return dek;
    },
    rewrap(wrapped, signal) {
      calls.push("rewrap");
      return kek.rewrap(wrapped, signal);
    },
  };
  const inEnvironment = (environment: string) =>
    createSealer({
      kek: { ...watched, ...change(watched) },
      environment,
      audit: async (act) => {
        audited.push(act);
        await audit(act);
      },
      clock,
    });
  return { sealer: inEnvironment("test"), kek, file, clock, calls, deks, audited, inEnvironment };
}

export async function sealOne(sealer: EnvelopeSealer, context = CONTEXT, plain: Uint8Array = PLAIN) {
  return (await sealer.prepare(context, ACTOR)).seal(context, plain);
}

export const isWiped = (bytes: Uint8Array) => bytes.every((byte) => byte === 0);
