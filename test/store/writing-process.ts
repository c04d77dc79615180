// Run as a process of its own, which is killed: creates accounts, each with its lock and event in one transaction,
// eight at a time, until it dies; says each account's id on a line as soon as it is answered.
import { writeSync } from "node:fs";
import { systemClock } from "../../src/clock.ts";
import { KeyturnError } from "../../src/errors.ts";
import { openEmbeddedStore } from "../../src/store/embedded/open.ts";
import { key } from "../../src/tokens/records.ts";
import { account, event, transaction } from "./samples.ts";

const opened = await openEmbeddedStore({
  directory: process.argv[2] ?? "",
  environment: "test",
  clock: systemClock(),
}).catch((error: unknown) => {
  writeSync(1, `refused: ${error instanceof KeyturnError ? error.metadata["cause"] : String(error)}\n`);
  process.exit(2);
});

async function write(line: number): Promise<never> {
  for (let n = 0; ; n += 1) {
    const id = `account-${line}-${n}`;
    await opened.store.write(
      transaction({
        writes: [
          { put: key("account", id), value: account(id) },
          {
            put: key("lock", id, "default"),
            value: { lockId: id, instance: "one", notAfterMs: 0 },
            ttlMs: 35_000,
          },
        ],
        events: [event("integrated_account:created", { accountId: id })],
      }),
    );
    writeSync(1, `${id}\n`);
  }
}

await Promise.all(Array.from({ length: 8 }, (_, line) => write(line)));
