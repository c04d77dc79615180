import type { Etcd } from "../backends/etcd.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");

/** What etcd holds in a folder of the sidecars' keys (`members`, `shards`), by what follows it in the key. */
export async function recordsIn(etcd: Etcd, folder: string): Promise<ReadonlyMap<string, Buffer>> {
  const root = `/keyturn/development/${folder}`;
  // 0 is the character after the slash.
  const range = { key: base64(`${root}/`), range_end: base64(`${root}0`) };
  const { kvs = [] } = (await etcd.call("kv/range", range)) as {
    readonly kvs?: readonly { readonly key: string; readonly value: string }[];
  };
  const text = (key: string) => Buffer.from(key, "base64").toString("utf8");
  return new Map(
    kvs.map(({ key, value }) => [text(key).slice(root.length + 1), Buffer.from(value, "base64")]),
  );
}
