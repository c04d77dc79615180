// A sidecar in a process of its own that writes down every request before it leaves, and every attempt that it is about
// to conclude.
// node sidecar-process.ts CONFIG_FILE WORDS_FILE [MUTANT]
import { appendFileSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { join } from "node:path";
import { startSidecar } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { createLog } from "../../src/log.ts";
import { keyText } from "../../src/tokens/records.ts";
import type { Transaction } from "../../src/tokens/store.ts";
import type { World } from "../../src/tokens/world.ts";
import type { Send, Word } from "./histories.ts";
import { MUTANTS } from "./mutants.ts";

const [file = "", words = "", mutant = ""] = process.argv.slice(2);

// At once: what is about to happen is on record though this process is killed in the midst of it.
const say = (word: Word) => appendFileSync(words, `${JSON.stringify(word)}\n`);

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
  const announce = ({ writes, expect }: Transaction) => {
    for (const write of writes) {
      if (!("remove" in write) || write.remove.kind !== "attempt") continue;
      const [accountId, slot] = write.remove.parts;
      const name = keyText(write.remove);
      const revision = expect.find(({ key }) => keyText(key) === name)?.revision ?? 0;
      say({ conclusion: { instance, accountId, slot, revision } });
    }
  };
  return {
    ...world,
    store: {
      read: (reads) => store.read(reads),
      scan: (kind, after, limit, shard) => store.scan(kind, after, limit, shard),
      write: async (transaction) => {
        announce(transaction);
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
          say({ send });
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
