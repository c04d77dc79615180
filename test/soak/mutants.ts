import type { Key } from "../../src/tokens/records.ts";
import type { Transaction } from "../../src/tokens/store.ts";
import { type Mutant, MUTANTS as OF_SIMULATION } from "../simulation/mutants.ts";

/** Takes the lock whoever has it, and goes on whoever has taken it meanwhile. */
const lockIgnored: Mutant = (world) => {
  const { store } = world;
  const isLock = ({ key }: { readonly key: Key }) => key.kind === "lock";
  return {
    ...world,
    store: {
      read: (reads) => store.read(reads),
      scan: (kind, after, limit, shard) => store.scan(kind, after, limit, shard),
      write: (transaction: Transaction) =>
        store.write({ ...transaction, expect: transaction.expect.filter((one) => !isLock(one)) }),
    },
  };
};

/** Asks the provider again at once when its answer was lost. */
const blindResend: Mutant = (world) => {
  const { vendors } = world;
  return {
    ...world,
    vendors: {
      ...vendors,
      exchange: async (context, go, ear, before) => {
        const result = await vendors.exchange(context, go, ear, before);
        return result.kind === "unknown" ? vendors.exchange(context, go, ear, before) : result;
      },
    },
  };
};

const found = (name: string): Mutant => {
  const mutant = OF_SIMULATION[name];
  if (mutant === undefined) throw new Error(`the simulation has no mutant without ${name}`);
  return mutant;
};

/** The refresh with one of its precautions taken away. */
export const MUTANTS: Readonly<Record<string, Mutant>> = {
  "no attempt": found("the attempt"),
  "no re-read": found("the re-read"),
  "lock ignored": lockIgnored,
  "blind resend": blindResend,
};
