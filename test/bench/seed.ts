import { join } from "node:path";
import { startSidecar } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Accounts, type NewAccount } from "../../src/tokens/accounts.ts";
import { ContentMarks } from "../../src/tokens/content-mark.ts";
import { Known } from "../../src/tokens/known.ts";
import { Secret } from "../../src/tokens/secret.ts";
import type { Store, Transaction, TransactionResult } from "../../src/tokens/store.ts";
import type { World } from "../../src/tokens/world.ts";

const DAY_MS = 86_400_000;
/** Transactions that become one. */
const BATCH = 250;
/** More would only wait for each other, and a store on a busy machine has its deadlines. */
const BATCHES_AT_ONCE = 4;
const FLUSH_AFTER_MS = 200;

export interface Seeding {
  /** Configuration keys beside state directory and sockets. */
  readonly set?: Readonly<Record<string, string>>;
  /** The simulated provider's. */
  readonly port?: string;
  /** When the `n`-th account's token ends. */
  readonly endsAtMs?: (n: number) => number;
  /** Accounts in one transaction. */
  readonly batch?: number;
}

/**
 * Fills a store with `acct-0` … by the sidecar's own code, only many accounts to a transaction and without their events.
 * Unless told otherwise, tokens end in 1 to 30 days, so that none is refreshed while anything is measured.
 */
export async function seedAccounts(stateDir: string, count: number, seeding: Seeding = {}): Promise<void> {
  const { set = {}, port = "9400", batch = BATCH } = seeding;
  const sockets = {
    "listeners.data.socket": join(stateDir, "d.sock"),
    "listeners.admin.socket": join(stateDir, "a.sock"),
  };
  let world: World | undefined;
  const sidecar = await startSidecar({
    config: loadConfig({ file: undefined, env: {}, flags: { state_dir: stateDir, ...sockets, ...set } }),
    env: {},
    log: () => undefined,
    shippedProviders: join(import.meta.dirname, "../../providers"),
    around: (inner) => {
      world = inner;
      return inner;
    },
  });
  if (world === undefined) throw new Error("a sidecar without a world");
  const { clock } = world;
  const endsAtMs = seeding.endsAtMs ?? ((n: number) => clock.now() + DAY_MS * (1 + (n % 29)));
  const batching = { ...world, store: batched(world.store, batch) };
  const accounts = new Accounts(batching, new Known(clock, 1), new ContentMarks(world));
  const atOnce = BATCHES_AT_ONCE * batch;
  for (let from = 0; from < count; from += atOnce) {
    const ids = Array.from({ length: Math.min(atOnce, count - from) }, (_, n) => from + n);
    await Promise.all(
      ids.map((n) =>
        accounts.create(accountOf(n, { port, nowMs: clock.now(), endsAtMs }), {
          caller: "bench",
          purpose: "seed",
        }),
      ),
    );
  }
  await sidecar.stop();
}

function accountOf(
  n: number,
  {
    port,
    nowMs,
    endsAtMs,
  }: { readonly port: string; readonly nowMs: number; readonly endsAtMs: (n: number) => number },
): NewAccount {
  const accessToken = `token-${n}-`.padEnd(600, "x");
  const refreshToken = `refresh-${n}`;
  return {
    id: `acct-${n}`,
    tenant: "acme",
    provider: "simulator",
    client: "main",
    labels: { customer: String(n % 1_000) },
    displayName: `Account ${n}`,
    externalSubject: "",
    fields: { port },
    credential: {
      kind: "oauth",
      accessToken: new Secret(accessToken),
      tokenType: "Bearer",
      issuedAtMs: nowMs,
      expiresAtMs: endsAtMs(n),
      refreshToken: new Secret(refreshToken),
      refreshTokenExpiresAtMs: undefined,
      scopes: [],
      members: new Secret({ access_token: accessToken, refresh_token: refreshToken }),
    },
  };
}

/** Many transactions about different accounts as one, so that a hundred thousand do not take a hundred thousand fsyncs. */
function batched(store: Store, batch: number): Store {
  const waiting: {
    readonly transaction: Transaction;
    readonly resolve: (result: Promise<TransactionResult>) => void;
  }[] = [];
  const flush = () => {
    const now = waiting.splice(0);
    const [first] = now;
    if (first === undefined) return;
    const all = now.map(({ transaction }) => transaction);
    const result = store.write({
      nonce: first.transaction.nonce,
      expect: all.flatMap(({ expect }) => expect),
      writes: all.flatMap(({ writes }) => writes),
      events: [],
      reads: all.flatMap(({ reads }) => reads),
    });
    for (const { resolve } of now) resolve(result);
  };
  return {
    read: (reads) => store.read(reads),
    scan: (kind, after, limit, shard) => store.scan(kind, after, limit, shard),
    write: (transaction) =>
      new Promise((resolve) => {
        waiting.push({ transaction, resolve });
        if (waiting.length === batch) flush();
        // The last ones are not a whole batch.
        else if (waiting.length === 1) setTimeout(flush, FLUSH_AFTER_MS);
      }),
  };
}
