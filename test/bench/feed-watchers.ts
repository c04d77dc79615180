// Feeds of many sidecars, each with a connection of its own: node feed-watchers.ts URL LOG REVISION COUNT.
// Says "ready", and then for every row of the log its key and when the last feed had told it, in epoch milliseconds.
import { systemClock } from "../../src/clock.ts";
import { EtcdClient } from "../../src/store/etcd/client.ts";
import { Feed } from "../../src/store/etcd/feed.ts";
import type { KvRow } from "../../src/store/kv.ts";

const [url = "", log = "", revision = "0", count = "0"] = process.argv.slice(2);

const clock = systemClock();
const access = { endpoints: [url], tls: undefined, login: undefined };
const missing = () => Promise.reject(new Error("nothing is compacted here"));
const heard = new Map<string, number>();
const tell = (rows: readonly KvRow[]) => {
  for (const { key } of rows) {
    const times = (heard.get(key) ?? 0) + 1;
    heard.set(key, times);
    if (times < Number(count)) continue;
    heard.delete(key);
    process.stdout.write(`${key} ${Date.now()}\n`);
  }
};
await Promise.all(
  Array.from({ length: Number(count) }, async () => {
    const client = await EtcdClient.load(access, clock, () => 0);
    const feed = new Feed(
      {
        client,
        clock,
        log,
        readLog: missing,
        hasDropped: missing,
        tell,
        onStands: () => undefined,
        onEnded: () => undefined,
        onGap: () => undefined,
        report: (error) => console.error(error),
      },
      Number(revision),
    );
    await feed.open();
  }),
);
process.stdout.write("ready\n");
