import { Acts, numberOf } from "./acts.ts";
import { Callers } from "./callers.ts";
import { Caps } from "./caps.ts";
import { Chronicle, type Violation } from "./chronicle.ts";
import { Finale } from "./finale.ts";
import { Ledger } from "./ledger.ts";
import { Host } from "./machine.ts";
import type { Mutant } from "./mutants.ts";
import { isCalm, type Plan } from "./plan.ts";
import { Random } from "./random.ts";
import { type Shared, Sidecar, stackOf } from "./sidecar.ts";
import { VendorModel } from "./vendor-model.ts";
import { VirtualTime } from "./virtual-time.ts";
import { Weather } from "./weather.ts";
import { Witness } from "./witness.ts";

export interface Result {
  readonly violation: Violation | undefined;
  /** Equal for equal histories. */
  readonly hash: string;
  readonly story: readonly string[];
  readonly coverage: ReadonlyMap<string, number>;
  /** How many events happened, and in how much virtual time. */
  readonly steps: number;
  readonly virtualMs: number;
}

/** Lives through one plan, from the first connected account to the last healed one. */
export async function simulate(plan: Plan, mutant?: Mutant): Promise<Result> {
  const { seed, shape } = plan;
  const random = new Random(`${seed}/run`);
  const time = new VirtualTime();
  const chronicle = new Chronicle(time);
  const model = new VendorModel(time);
  const weather = new Weather(time);
  const witness: Witness = new Witness(time, chronicle, model, (id) => ledger.account(id), isCalm(plan));
  const ledger: Ledger = new Ledger(time, chronicle, witness);
  const provider = (name: string) => shape.providers.find((one) => one.name === name);
  const caps = new Caps(time, chronicle);
  const maxKnownAccounts = random.chance(0.15) ? 2 : 1_000;
  const shared: Shared = { ledger, weather, witness, model, caps, provider, mutant, maxKnownAccounts };
  const sidecars = Array.from({ length: shape.sidecars }, (_, n) => {
    const own = random.fork(`host ${n}`);
    const host = new Host(`s${n}`, time, own, chronicle, own.between(-3_000, 3_000));
    const shares = {
      all: () => true,
      none: () => false,
      shared: (id: string) => numberOf(id) % shape.sidecars === n,
    };
    const owns = shares[shape.schedulers];
    return new Sidecar(host, shared, owns);
  });
  const callers = new Callers(chronicle, model, witness, ledger, isCalm(plan));
  const acts = new Acts(shape, shared, sidecars, callers);
  const isOver = () => chronicle.violation !== undefined;
  const onRejection = (error: unknown) =>
    chronicle.broken("no fault of our own", `unhandled: ${stackOf(error)}`);
  process.on("unhandledRejection", onRejection);
  try {
    for (const sidecar of sidecars) sidecar.start();
    await time.run(1_000);
    for (const one of shape.providers) void acts.putClient(0, one);
    await time.run(2_000);
    for (let n = 0; n < shape.accounts; n += 1) time.after(n * 40, () => void acts.create(n, n));
    await time.run(4_000, isOver);
    const startMs = time.nowMs;
    for (const step of plan.steps) time.after(step.atMs, () => acts.do(step));
    await time.run(startMs + shape.horizonMs, isOver);
    if (!isOver()) await new Finale(shape, shared, sidecars, acts, callers, chronicle).run();
  } catch (error) {
    chronicle.broken("no fault of our own", stackOf(error));
  } finally {
    process.off("unhandledRejection", onRejection);
  }
  return {
    violation: chronicle.violation,
    hash: chronicle.hash,
    story: chronicle.lines,
    coverage: chronicle.coverage,
    steps: time.steps,
    virtualMs: time.nowMs,
  };
}
