import type { IKeyValue, IRangeRequest } from "etcd3";
import { endOf, type KvRead, type KvRow } from "../kv.ts";

/** A read as etcd has it. */
export function rangeOf(read: KvRead): IRangeRequest {
  if ("key" in read) return { key: Buffer.from(read.key) };
  if ("prefix" in read) {
    // The smallest key after `after` is itself with a zero behind it.
    const from = read.after === "" ? read.prefix : `${read.after}\0`;
    return { key: Buffer.from(from), range_end: Buffer.from(endOf(read.prefix)), limit: read.limit };
  }
  return {
    key: Buffer.from(read.log),
    range_end: Buffer.from(endOf(read.log)),
    min_mod_revision: read.fromRevision,
    sort_order: "Ascend",
    sort_target: "Mod",
    limit: read.limit,
  };
}

/** A key and its value as rows have them. */
export function rowOf({ key, value, create_revision, mod_revision }: IKeyValue): KvRow {
  return {
    key: key.toString(),
    value: new Uint8Array(value.buffer, value.byteOffset, value.byteLength),
    createRevision: Number(create_revision),
    revision: Number(mod_revision),
  };
}

/** In order of revision, then key: etcd's sort is not stable in the key. */
export function inLogOrder(rows: readonly KvRow[]): readonly KvRow[] {
  return rows.toSorted((a, b) => a.revision - b.revision || (a.key < b.key ? -1 : 1));
}
