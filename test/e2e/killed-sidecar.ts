// A sidecar in a process of its own that ends itself with SIGKILL at one moment of a refresh.
// node killed-sidecar.ts STATE_DIR MOMENT: moments count from 0 at the refresh's lock; -1 never.
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { startSidecar } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { createLog } from "../../src/log.ts";
import type { Store } from "../../src/tokens/store.ts";
import type { World } from "../../src/tokens/world.ts";

const [stateDir = "", killAt = "-1"] = process.argv.slice(2);

let isArmed = false;
let moment = 0;

function pass(name: string): void {
  if (!isArmed) return;
  appendFileSync(join(stateDir, "moments"), `${name}\n`);
  if (moment === Number(killAt)) process.kill(process.pid, "SIGKILL");
  moment += 1;
}

/** Every call has two moments: before it is made, and after it has answered. */
function watched<T extends object>(port: T, name: string): T {
  return new Proxy(port, {
    get(target, property) {
      const member: unknown = Reflect.get(target, property);
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        const answer: unknown = Reflect.apply(member, target, args);
        if (!(answer instanceof Promise)) return answer;
        pass(`before ${name}.${String(property)}`);
        return answer.then((value) => {
          pass(`after ${name}.${String(property)}`);
          return typeof value === "object" && value !== null && "keep" in value
            ? watched(value, "slot")
            : value;
        });
      };
    },
  });
}

function armedByLock(store: Store): Store {
  const inner = watched(store, "store");
  return {
    read: (reads) => inner.read(reads),
    scan: (kind, after, limit) => inner.scan(kind, after, limit),
    write: (transaction) => {
      if (transaction.writes.some((write) => "put" in write && write.put.kind === "lock")) isArmed = true;
      return inner.write(transaction);
    },
  };
}

const around = (world: World): World => ({
  ...world,
  store: armedByLock(world.store),
  sealer: watched(world.sealer, "sealer"),
  journal: watched(world.journal, "journal"),
  vendors: watched(world.vendors, "vendors"),
});

const flags = {
  state_dir: stateDir,
  "listeners.data.socket": join(stateDir, "data.sock"),
  "listeners.admin.socket": join(stateDir, "admin.sock"),
};
const config = loadConfig({ file: undefined, env: {}, flags });
const log = createLog((line) => process.stderr.write(line), Date.now);
const sidecar = await startSidecar({
  config,
  env: {},
  log,
  shippedProviders: join(import.meta.dirname, "../../providers"),
  around,
});
process.on("SIGTERM", () => void sidecar.stop().then(() => process.exit(0)));
