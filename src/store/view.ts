import type { Key, KeyOf, Kind } from "../tokens/records.ts";
import type { Entry, View } from "../tokens/store.ts";
import { decode } from "./codec.ts";
import { partsOf, pathOf } from "./keys.ts";
import type { KvRow } from "./kv.ts";

interface Found {
  readonly kind: Kind;
  readonly path: string;
  readonly row: KvRow;
}

/** A row as an entry. INTERNAL_ERROR when its format is not known. */
export function entryOf<K extends Kind>(kind: K, path: string, row: KvRow): Entry<K> {
  // The path was made of a key of this kind.
  const key = { kind, parts: partsOf(kind, path) } as unknown as KeyOf<K>;
  const { createRevision, revision } = row;
  return { key, value: decode(kind, row.value, path), createRevision, revision };
}

/** Decodes what is asked for, when it is: a record that cannot be read does not hide that a transaction has landed. */
export class RecordView implements View {
  readonly storeRevision: number;
  readonly #found: ReadonlyMap<string, Found>;
  readonly #entries = new Map<string, Entry>();

  constructor(found: readonly Found[], storeRevision: number) {
    this.#found = new Map(found.map((one) => [one.path, one]));
    this.storeRevision = storeRevision;
  }

  get<K extends Kind>(key: KeyOf<K>): Entry<K> | undefined {
    return this.#entry<K>(pathOf(key as Key));
  }

  all<K extends Kind>(kind: K): readonly Entry<K>[] {
    const paths = [...this.#found.values()].filter((one) => one.kind === kind).map(({ path }) => path);
    return paths.sort().flatMap((path) => this.#entry<K>(path) ?? []);
  }

  #entry<K extends Kind>(path: string): Entry<K> | undefined {
    const found = this.#found.get(path);
    if (found === undefined) return undefined;
    const entry = this.#entries.get(path) ?? entryOf(found.kind, path, found.row);
    this.#entries.set(path, entry);
    // A path begins with its kind's own folder.
    return entry as unknown as Entry<K>;
  }
}
