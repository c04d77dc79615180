// Many clients that each watch the feed as a sidecar does: node feed-watchers.ts URL PREFIX COUNT.
// Prints, for every event, how long after its writing the last of them had it, in milliseconds.
import { Etcd3 } from "etcd3";

const [url = "", prefix = "", count = "0"] = process.argv.slice(2);

const heard = new Map<string, number>();
const clients = Array.from(
  { length: Number(count) },
  // Connections of their own, as separate processes have.
  () => new Etcd3({ hosts: url, grpcOptions: { "grpc.use_local_subchannel_pool": 1 } }),
);
await Promise.all(
  clients.map(async (client) => {
    const watcher = await client.watch().prefix(prefix).create();
    watcher.on("put", ({ key, value }) => {
      const name = key.toString();
      const times = (heard.get(name) ?? 0) + 1;
      heard.set(name, times);
      if (times < clients.length) return;
      heard.delete(name);
      // Each event starts with the time of its writing.
      process.stdout.write(`${Date.now() - Number(value.toString("latin1").slice(0, 13))}\n`);
    });
  }),
);
process.stdout.write("ready\n");
