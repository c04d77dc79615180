// Run as a process of its own, which is killed: records until it dies, and says each account on a line as soon as its
// record is durable.
import { writeSync } from "node:fs";
import { createAudit } from "../../src/audit/audit.ts";
import { systemClock } from "../../src/clock.ts";

const directory = process.argv[2] ?? "";
const audit = await createAudit({ instance: "one", clock: systemClock(), to: { directory } });
for (let n = 0; ; n += 1) {
  await audit.record({ operation: "kek.unwrap", outcome: "ok", caller: "reports", account: `a-${n}` });
  writeSync(1, `a-${n}\n`);
}
