import { type Key, keyText } from "../../src/tokens/records.ts";
import type { Entry, Store, Transaction, View } from "../../src/tokens/store.ts";
import type { World } from "../../src/tokens/world.ts";

/** The heart with one of its precautions taken away, by changing what its ports do. */
export type Mutant = (world: World) => World;

type Rewrite = (transaction: Transaction) => Transaction;

function rewriting(rewrite: Rewrite): Mutant {
  return (world) => {
    const { store } = world;
    const changed: Store = {
      read: (reads) => store.read(reads),
      scan: (kind, after, limit) => store.scan(kind, after, limit),
      write: (transaction) => store.write(rewrite(transaction)),
    };
    return { ...world, store: changed };
  };
}

const putsOf = (transaction: Transaction) =>
  transaction.writes.flatMap((write) => ("put" in write ? [write.put.kind] : []));

const withoutPut = (kind: Key["kind"]): Mutant =>
  rewriting((transaction) => ({
    ...transaction,
    writes: transaction.writes.filter((write) => !("put" in write) || write.put.kind !== kind),
  }));

const withoutExpecting = (transaction: Transaction, ...kinds: readonly Key["kind"][]): Transaction => ({
  ...transaction,
  expect: transaction.expect.filter(({ key }) => !kinds.includes(key.kind)),
});

const isAttempt = (transaction: Transaction) => putsOf(transaction).includes("attempt");
const isLock = (transaction: Transaction) => putsOf(transaction).includes("lock");

/**
 * The transaction that takes the lock reads nothing: the refresh goes on with what this process read of the account
 * before, and what was not read is not compared when the attempt is written.
 */
const withoutReRead: Mutant = (world) => {
  const { store } = world;
  const remembered = new Map<string, Entry>();
  const AGED: readonly Key["kind"][] = ["account", "credential", "attempt", "hold"];
  const remember = (transaction: Pick<Transaction, "reads">, view: View): View => {
    for (const read of transaction.reads) {
      if ("under" in read || !AGED.includes(read.kind)) continue;
      const entry = view.get(read);
      if (entry === undefined) remembered.delete(keyText(read));
      else remembered.set(keyText(read), entry);
    }
    return view;
  };
  const aged = (view: View): View => ({
    storeRevision: view.storeRevision,
    all: (kind) => view.all(kind),
    // The remembered entry is of its key's own kind.
    get: (key) =>
      (remembered.get(keyText(key as Key)) as ReturnType<typeof view.get<typeof key.kind>>) ?? view.get(key),
  });
  return {
    ...world,
    store: {
      scan: (kind, after, limit) => store.scan(kind, after, limit),
      read: async (reads) => remember({ reads }, await store.read(reads)),
      write: async (transaction) => {
        const isRead = !isLock(transaction);
        const sent = isAttempt(transaction)
          ? withoutExpecting(transaction, "account", "credential", "attempt")
          : transaction;
        const result = await store.write(sent);
        return { ...result, view: isRead ? remember(transaction, result.view) : aged(result.view) };
      },
    },
  };
};

/** By the name of what is missing. */
export const MUTANTS: Readonly<Record<string, Mutant>> = {
  "the re-read": withoutReRead,
  "the attempt": withoutPut("attempt"),
  "the hold": withoutPut("hold"),
  "the journal": (world) => ({
    ...world,
    journal: {
      reserve: () => world.journal.reserve(),
      entries: async () => [],
      remove: (attemptId) => world.journal.remove(attemptId),
    },
  }),
  "the permit": withoutPut("permit"),
  "the budget": withoutPut("budget"),
  "the cool-down": withoutPut("cooldown"),
  "the burst's marks": withoutPut("verdict"),
  "the generation check": rewriting((transaction) => withoutExpecting(transaction, "account", "credential")),
  "the never-resend rule": (world) => {
    const { vendors } = world;
    const rules: World["vendors"]["rules"] = (name) => {
      const own = vendors.rules(name);
      return own === undefined ? undefined : { ...own, resendSafe: true };
    };
    return {
      ...world,
      vendors: {
        rules,
        exchange: (context, go, ear) => vendors.exchange(context, go, ear),
        interpret: (context, answer) => vendors.interpret(context, answer),
        verify: (context) => vendors.verify(context),
        revoke: (context) => vendors.revoke(context),
        revokeAccessToken: (context) => vendors.revokeAccessToken(context),
        authorize: (context) => vendors.authorize(context),
      },
    };
  },
};
