import type { Clock } from "../clock.ts";
import { KeyturnError } from "../errors.ts";
import { Draft } from "./draft.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { type Key, key } from "./records.ts";
import { settle } from "./settle.ts";
import type { Store, Transaction, View, Write } from "./store.ts";

/**
 * Nothing sealed under a KEK version that is being retired may come into the store any more, or it could not be opened
 * afterwards: what was sealed, or is about to be, before another sidecar retires the version. So every transaction that
 * brings in something sealed expects the floor as this process knows it, and whoever retires raises it first and counts
 * then: what was stored before is seen, and what comes after is refused.
 */
export class KekFloor {
  readonly #inner: Store;
  readonly #at: Key & { readonly kind: "kek_floor" };
  #known = { revision: 0, version: 0 };

  constructor(store: Store, kekId: string) {
    this.#inner = store;
    this.#at = key("kek_floor", kekId);
  }

  /**
   * The same store. STORE_UNAVAILABLE with cause `kek_version_retiring`, nothing having landed, for what is sealed under a
   * version below the floor: sealed anew it is under the newest one.
   */
  get store(): Store {
    const inner = this.#inner;
    return {
      read: (reads) => inner.read(reads),
      write: (transaction) => this.#write(transaction),
      scan: (kind, after, limit, shard) => inner.scan(kind, after, limit, shard),
    };
  }

  async #write(transaction: Transaction) {
    const version = oldestNewcomer(transaction);
    if (version === undefined) return this.#inner.write(transaction);
    for (;;) {
      if (version <= this.#known.version) await this.#learn();
      if (version <= this.#known.version) throw retiring(version);
      const { revision } = this.#known;
      const expect = [...transaction.expect, { key: this.#at, revision }];
      const reads = [...transaction.reads, this.#at];
      const result = await this.#inner.write({ ...transaction, expect, reads });
      this.#take(result.view);
      if (result.applied || this.#known.revision === revision) return result;
    }
  }

  async #learn(): Promise<void> {
    this.#take(await this.#inner.read([this.#at]));
  }

  #take(view: View): void {
    const floor = view.get(this.#at);
    this.#known = { revision: floor?.revision ?? 0, version: floor?.value.version ?? 0 };
  }
}

interface Deps {
  readonly store: Store;
  readonly clock: Clock;
  readonly newId: () => string;
}

/** Runs `count` with nothing under `version` or an older one coming into the store; puts the floor back when it rejects. */
export async function withFloor(
  deps: Deps,
  kekId: string,
  version: number,
  count: () => Promise<void>,
): Promise<void> {
  const at = key("kek_floor", kekId);
  const before = (await deps.store.read([at])).get(at);
  const write = (draft: Draft) =>
    settle(deps, draft.done(deps.newId(), [at]), deps.clock.boot() + STORE_PATIENCE_MS);
  const raised = Math.max(version, before?.value.version ?? 0);
  const { view } = await write(new Draft().put(at, { version: raised }));
  try {
    await count();
  } catch (error) {
    const draft = new Draft().expect(at, view.get(at));
    // Somebody else has raised it meanwhile: then it is theirs.
    await write(before === undefined ? draft.remove(view.get(at)) : draft.put(at, before.value));
    throw error;
  }
}

/** The oldest version among what a transaction brings in; an exchange's own outcome is counted by its attempt. */
function oldestNewcomer({ expect, writes }: Transaction): number | undefined {
  const concludes = expect.some(({ key, revision }) => key.kind === "attempt" && revision > 0);
  if (concludes) return undefined;
  const versions = writes.map(versionIn).filter((version) => version !== undefined);
  return versions.length === 0 ? undefined : Math.min(...versions);
}

function versionIn(write: Write): number | undefined {
  if ("remove" in write) return undefined;
  const { value } = write;
  if ("kekVersion" in value) return value.kekVersion;
  return "sealed" in value ? value.sealed?.kekVersion : undefined;
}

function retiring(version: number): KeyturnError {
  return new KeyturnError(
    "STORE_UNAVAILABLE",
    `Version ${version} of the KEK is being retired; what is sealed anew is under the newest one.`,
    { metadata: { cause: "kek_version_retiring" }, retryAfterMs: 1_000 },
  );
}
