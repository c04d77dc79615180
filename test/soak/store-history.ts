import { setTimeout as delay } from "node:timers/promises";
import { decode } from "../../src/store/codec.ts";
import { partsOf, pathUnder, rootOf } from "../../src/store/keys.ts";
import type { Etcd } from "../backends/etcd.ts";
import { type Row, WATCHED, type Watched } from "./histories.ts";

interface WatchAnswer {
  readonly result?: {
    readonly header?: { readonly revision?: string };
    readonly events?: readonly {
      readonly type?: "DELETE";
      readonly kv: { readonly key: string; readonly value?: string; readonly mod_revision: string };
    }[];
  };
}

const base64 = (text: string) => Buffer.from(text).toString("base64");

/** Everything that etcd ever did to an environment's records, from its own history; it outlives etcd's restarts. */
export class StoreHistory {
  readonly rows: Row[] = [];
  readonly #etcd: Etcd;
  readonly #root: string;
  readonly #stop = new AbortController();
  #revision = 0;

  constructor(etcd: Etcd, environment: string) {
    this.#etcd = etcd;
    this.#root = rootOf(environment);
    void this.#follow();
  }

  /** Ends once everything up to the store's present revision has been heard. */
  async end(): Promise<void> {
    const { header } = await this.#etcd.call("kv/range", { key: base64("nothing") });
    const present = Number((header as { readonly revision: string }).revision);
    // A key of the environment's own, so that the watch hears of this revision or a later one.
    await this.#etcd.call("kv/put", { key: base64(`${this.#root}end`), value: "" });
    while (this.#revision <= present) await delay(20);
    this.#stop.abort();
  }

  async #follow(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#watch().catch(() => undefined);
      await delay(100);
    }
  }

  async #watch(): Promise<void> {
    const range = { key: base64(this.#root), range_end: base64(`${this.#root.slice(0, -1)}0`) };
    const answer = await fetch(`${this.#etcd.only.url}/v3/watch`, {
      method: "POST",
      body: JSON.stringify({ create_request: { ...range, start_revision: String(this.#revision + 1) } }),
      signal: this.#stop.signal,
    });
    let rest = "";
    for await (const chunk of answer.body ?? []) {
      const lines = (rest + Buffer.from(chunk).toString("utf8")).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#hear(JSON.parse(line) as WatchAnswer, Date.now());
    }
  }

  #hear({ result }: WatchAnswer, heardAtMs: number): void {
    for (const { type, kv } of result?.events ?? []) {
      const revision = Number(kv.mod_revision);
      this.#revision = Math.max(this.#revision, revision);
      const path = Buffer.from(kv.key, "base64").toString().slice(this.#root.length);
      const kind = WATCHED.find((one) => path.startsWith(pathUnder(one, [])));
      if (kind === undefined) continue;
      const value = type === "DELETE" ? undefined : Buffer.from(kv.value ?? "", "base64");
      this.rows.push(rowOf(kind, path, value, { revision, heardAtMs }));
    }
  }
}

function rowOf<K extends Watched>(
  kind: K,
  path: string,
  bytes: Uint8Array | undefined,
  at: { readonly revision: number; readonly heardAtMs: number },
): Row {
  const value = bytes === undefined ? undefined : decode(kind, bytes, path);
  // Kind and value go together by construction, which a union does not see through a generic.
  return { ...at, kind, parts: partsOf(kind, path), value } as unknown as Row;
}
