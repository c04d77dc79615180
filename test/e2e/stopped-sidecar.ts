// A sidecar in a process of its own that stops itself, as SIGSTOP does, at one moment of the first refresh it makes.
// node stopped-sidecar.ts CONFIG MOMENT: the file `stopped` in the state directory says that it has.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { startSidecar } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { createLog } from "../../src/log.ts";
import type { World } from "../../src/tokens/world.ts";

/** The attempt stands and nothing has been sent; the answer is there and nobody has looked at it. */
export type Moment = "before-send" | "after-answer";

const [file = "", moment = ""] = process.argv.slice(2);
const config = loadConfig({ file, env: {}, flags: {} });
let isStopped = false;

function stop(at: Moment): void {
  if (isStopped || at !== moment) return;
  isStopped = true;
  writeFileSync(join(config.state_dir ?? "", "stopped"), "");
  process.kill(process.pid, "SIGSTOP");
}

const around = (world: World): World => ({
  ...world,
  vendors: new Proxy(world.vendors, {
    get(vendors, name) {
      const member: unknown = Reflect.get(vendors, name);
      if (name !== "exchange" || typeof member !== "function") return member;
      return async (...args: unknown[]) => {
        stop("before-send");
        const answer: unknown = await Reflect.apply(member, vendors, args);
        stop("after-answer");
        return answer;
      };
    },
  }),
});

const sidecar = await startSidecar({
  config,
  env: {},
  log: createLog((line) => process.stderr.write(line), Date.now),
  shippedProviders: join(import.meta.dirname, "../../providers"),
  around,
});
process.on("SIGTERM", () => void sidecar.stop().then(() => process.exit(0)));
