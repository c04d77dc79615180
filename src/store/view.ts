import type { Key, KeyOf, Kind, ValueOf } from "../tokens/records.ts";
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
export function entryOf<K extends Kind>(kind: K, path: string, row: KvRow, known?: KeyOf<K>): Entry<K> {
  const key = known ?? keyIn(kind, path);
  const { createRevision, revision } = row;
  return { key, value: decode(kind, row.value, path), createRevision, revision };
}

function keyIn<K extends Kind>(kind: K, path: string): KeyOf<K> {
  // The path was made of a key of this kind.
  return { kind, parts: partsOf(kind, path) } as unknown as KeyOf<K>;
}

/** One of many, most of which are only counted: its value is decoded when it is asked for, and fails then. */
class Numbered<K extends Kind> implements Entry<K> {
  readonly key: KeyOf<K>;
  readonly createRevision: number;
  readonly revision: number;
  readonly #path: string;
  readonly #bytes: Uint8Array;
  #value: ValueOf<K> | undefined;

  constructor(kind: K, path: string, { createRevision, revision, value }: KvRow) {
    this.key = keyIn(kind, path);
    this.createRevision = createRevision;
    this.revision = revision;
    this.#path = path;
    this.#bytes = value;
  }

  get value(): ValueOf<K> {
    this.#value ??= decode(this.key.kind as K, this.#bytes, this.#path);
    return this.#value;
  }
}

/** Decodes what is asked for, when it is: a record that cannot be read does not hide that a transaction has landed. */
export class RecordView implements View {
  readonly storeRevision: number;
  readonly #found: ReadonlyMap<string, Found>;
  readonly #entries = new Map<string, Entry>();
  readonly #numbered = new Map<Kind, readonly Entry[]>();

  constructor(found: readonly Found[], storeRevision: number) {
    this.#found = new Map(found.map((one) => [one.path, one]));
    this.storeRevision = storeRevision;
  }

  get<K extends Kind>(key: KeyOf<K>): Entry<K> | undefined {
    const path = pathOf(key as Key);
    const found = this.#found.get(path);
    if (found === undefined) return undefined;
    // A path begins with its kind's own folder.
    const entry =
      this.#entries.get(path) ?? (entryOf(key.kind as K, path, found.row, key) as unknown as Entry);
    this.#entries.set(path, entry);
    return entry as unknown as Entry<K>;
  }

  all<K extends Kind>(kind: K): readonly Entry<K>[] {
    const made = this.#numbered.get(kind) ?? this.#made(kind);
    this.#numbered.set(kind, made);
    return made as unknown as readonly Entry<K>[];
  }

  #made(kind: Kind): readonly Entry[] {
    const found = [...this.#found.values()].filter((one) => one.kind === kind);
    return found
      .sort((one, other) => (one.path < other.path ? -1 : 1))
      .map(({ path, row }) => new Numbered(kind, path, row) as unknown as Entry);
  }
}
