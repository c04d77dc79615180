// A process that settles one transaction in etcd: node settling-process.ts URL. Says `open`, waits for a line of input,
// and then says whether the transaction is in force.
import { once } from "node:events";
import { systemClock } from "../../src/clock.ts";
import { openEtcdStore } from "../../src/store/etcd/open.ts";
import { key } from "../../src/tokens/records.ts";
import { settle } from "../../src/tokens/settle.ts";
import { account, event, transaction } from "./samples.ts";

const PATIENCE_MS = 15_000;

const [url = ""] = process.argv.slice(2);
const clock = systemClock();
const access = { endpoints: [url], tls: undefined, login: undefined };
const { store, close } = await openEtcdStore({ access, environment: "test", clock });
process.stdout.write("open\n");
await once(process.stdin, "data");
const same = {
  ...transaction({
    writes: [{ put: key("account", "acme"), value: account("acme") }],
    events: [event("integrated_account:created", { accountId: "acme" })],
  }),
  nonce: "the same of both",
};
const { applied } = await settle({ store, clock }, same, clock.boot() + PATIENCE_MS);
process.stdout.write(`${applied}\n`);
await close();
process.stdin.destroy();
