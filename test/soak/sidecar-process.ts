// A sidecar in a process of its own that writes down every request before it leaves.
// node sidecar-process.ts CONFIG_FILE SENDS_FILE [MUTANT]
import { appendFileSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { join } from "node:path";
import { startSidecar } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { createLog } from "../../src/log.ts";
import type { Transaction } from "../../src/tokens/store.ts";
import type { World } from "../../src/tokens/world.ts";
import type { Send } from "./histories.ts";
import { MUTANTS } from "./mutants.ts";

const [file = "", sends = "", mutant = ""] = process.argv.slice(2);

/** Next to the ports themselves, so that it sees what a mutant makes of them. */
function recorded(world: World): World {
  const { store, vendors, instance } = world;
  const attempts = new Map<string, { readonly attemptId: string; readonly generation: number }>();
  const note = ({ writes }: Transaction) => {
    for (const write of writes) {
      if (!("put" in write) || write.put.kind !== "attempt" || !("value" in write)) continue;
      attempts.set(write.put.parts.join("/"), write.value as { attemptId: string; generation: number });
    }
  };
  return {
    ...world,
    store: {
      read: (reads) => store.read(reads),
      scan: (kind, after, limit, shard) => store.scan(kind, after, limit, shard),
      write: async (transaction) => {
        const result = await store.write(transaction);
        if (result.applied) note(transaction);
        return result;
      },
    },
    vendors: {
      ...vendors,
      exchange: (context, go, ear, before) => {
        const { account, slot } = context;
        const generation = account.slots[slot]?.generation ?? 0;
        const attempt = attempts.get(`${account.id}/${slot}`);
        const attemptId = attempt?.generation === generation ? attempt.attemptId : undefined;
        const leaving = () => {
          if (!go()) return false;
          const { id: accountId, incarnation } = account;
          const send: Send = {
            atMs: Date.now(),
            instance,
            accountId,
            slot,
            incarnation,
            generation,
            attemptId,
          };
          appendFileSync(sends, `${JSON.stringify(send)}\n`);
          return true;
        };
        return vendors.exchange(context, leaving, ear, before);
      },
    },
  };
}

const config = loadConfig({ file, env: {}, flags: {} });
const log = createLog((line) => process.stderr.write(line), Date.now);
const sidecar = await startSidecar({
  config,
  env: {},
  log,
  shippedProviders: join(import.meta.dirname, "../../providers"),
  around: (world) => (MUTANTS[mutant] ?? ((same: World) => same))(recorded(world)),
});
// Whoever starts next, or starts this one again, has less to compile.
flushCompileCache();
process.on("SIGTERM", () => void sidecar.stop().then(() => process.exit(0)));
