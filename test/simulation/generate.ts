import { POINTS } from "./machine.ts";
import {
  type Action,
  type Blow,
  type Plan,
  type ProviderShape,
  type Shape,
  STORE_MODES,
  type Step,
  type Style,
  VENDOR_MODES,
} from "./plan.ts";
import { Random } from "./random.ts";

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;

/** The plan of a seed: always the same one. */
export function planOf(seed: string): Plan {
  const random = new Random(seed);
  const shape = shapeOf(random.fork("shape"));
  const steps = [...users(random.fork("users"), shape), ...faults(random.fork("faults"), shape)];
  return { seed, shape, steps: steps.toSorted((a, b) => a.atMs - b.atMs) };
}

function shapeOf(random: Random): Shape {
  const accounts = random.chance(0.2) ? random.between(8, 12) : random.between(1, 5);
  const providers = Array.from({ length: random.between(1, 2) }, (_, n) => providerOf(random, n, accounts));
  const shortestMs = Math.min(...providers.map(({ lifetimeMs }) => lifetimeMs));
  const schedulers = random.pick(["all", "shared", "none", "none"] as const);
  // Tokens that live ten seconds are as many in two minutes as others in an hour.
  const mostMinutes = Math.max(
    3,
    Math.min(random.chance(0.1) ? 40 : 10, (shortestMs * 30) / accounts / MINUTE_MS),
  );
  return {
    sidecars: random.between(2, random.chance(0.2) ? 5 : 3),
    providers,
    accounts,
    pairs: random.chance(0.25),
    horizonMs: random.between(3, Math.floor(mostMinutes)) * MINUTE_MS,
    schedulers,
    finale: shortestMs >= 900_000 && schedulers !== "none" && random.chance(0.5) ? "schedule" : "demand",
  };
}

function providerOf(random: Random, n: number, accounts: number): ProviderShape {
  const style = random.pick<Style>(["strict", "strict", "strict", "grace", "none"]);
  const lifetimeMs = random.pick([10, 40, 90, 300, 300, 900, 3_600]) * SECOND_MS;
  const perMs = random.pick([20, 60, 120]) * SECOND_MS;
  // Twice what keeping every account fresh takes, at least.
  const enough = Math.ceil((2 * accounts * perMs) / lifetimeMs);
  return {
    name: `${style}${n}`,
    style,
    lifetimeMs,
    omits: random.chance(0.3),
    maxConcurrent: random.chance(0.4) ? random.between(1, 3) : undefined,
    budget: random.chance(0.3)
      ? { requests: Math.max(random.pick([4, 6, 10, 40]), enough), perMs }
      : undefined,
    earliestBeforeExpiryMs: random.chance(0.2) ? Math.round(lifetimeMs / 5) : undefined,
  };
}

type Draw = (random: Random, shape: Shape) => Action;

const someone = (random: Random, shape: Shape) => ({
  sidecar: random.between(0, shape.sidecars - 1),
  account: random.between(0, shape.accounts - 1),
});
const someProvider = (random: Random, shape: Shape) => random.between(0, shape.providers.length - 1);

const askOf = (random: Random, shape: Shape, mayReject: boolean): Action => ({
  kind: "ask",
  ...someone(random, shape),
  callers: random.chance(0.1) ? random.between(2, 12) : 1,
  waitMs: random.pick([200, 2_000, 10_000, 10_000, 45_000, 100_000]),
  minValidityMs: random.chance(0.1) ? random.pick([60, 600, 7_200]) * SECOND_MS : 0,
  rejects: random.chance(0.06) && mayReject,
  tries: random.chance(0.4) ? random.between(1, 40) : 0,
});

const ACTS: readonly Draw[] = [
  (random, shape) => ({ kind: "refresh", ...someone(random, shape), bulk: random.chance(0.3) }),
  (random, shape) => ({ kind: "reauthorise", ...someone(random, shape) }),
  (random, shape) => ({ kind: "reauthorise", ...someone(random, shape) }),
  (random, shape) => ({ kind: "disable", ...someone(random, shape) }),
  (random, shape) => ({ kind: "enable", ...someone(random, shape) }),
  (random, shape) => ({
    kind: "delete",
    ...someone(random, shape),
    revoke: random.chance(0.5),
    againMs: random.chance(0.7) ? random.between(50, 30_000) : undefined,
  }),
  (random, shape) => ({ kind: "label", ...someone(random, shape) }),
  (random, shape) => ({ kind: "rewrap", ...someone(random, shape) }),
  (random, shape) => ({ kind: "storm", ...someone(random, shape), edits: random.between(20, 120) }),
  (random, shape) => ({
    kind: "new_secret",
    sidecar: random.between(0, shape.sidecars - 1),
    provider: someProvider(random, shape),
  }),
  (random, shape) => ({
    kind: "hold",
    sidecar: random.between(0, shape.sidecars - 1),
    provider: someProvider(random, shape),
    forMs: random.between(1, 90) * SECOND_MS,
  }),
];

function users(random: Random, shape: Shape): readonly Step[] {
  const asks = Math.min(160, Math.ceil((shape.horizonMs / SECOND_MS / 15) * shape.accounts * 0.6));
  const steps: Step[] = [];
  const at = () => random.between(0, shape.horizonMs);
  const acts = random.chance(0.2) ? 0 : random.between(0, 10);
  const mayReject = random.chance(0.8);
  for (let i = 0; i < asks; i += 1) steps.push({ atMs: at(), ...askOf(random, shape, mayReject) });
  for (let i = 0; i < acts; i += 1) steps.push({ atMs: at(), ...random.pick(ACTS)(random, shape) });
  return steps;
}

function blowOf(random: Random): Blow {
  const forMs = random.pick([300, 3_000, 12_000, 40_000, 100_000]) + random.between(0, 1_000);
  const downMs = random.pick([100, 2_000, 20_000, 80_000, 150_000]) + random.between(0, 1_000);
  const kind = random.pick(["crash", "crash", "crash", "stop", "pause", "pause", "partition"] as const);
  switch (kind) {
    case "crash":
      return { kind, diskLost: random.chance(0.3), downMs };
    case "stop":
      return { kind, limitMs: random.pick([0, 5_000, 25_000]), downMs };
    default:
      return { kind, forMs };
  }
}

const FAULTS: readonly Draw[] = [
  (random, shape) => ({ kind: "blow", sidecar: random.between(0, shape.sidecars - 1), blow: blowOf(random) }),
  ...Array.from(
    { length: 5 },
    (): Draw => (random, shape) => ({
      kind: "trap",
      sidecar: random.between(0, shape.sidecars - 1),
      point: random.pick(POINTS),
      skip: random.chance(0.5) ? 0 : random.between(1, 6),
      blow: blowOf(random),
    }),
  ),
  ...Array.from(
    { length: 2 },
    (): Draw => (random, shape) => ({
      kind: "store_trouble",
      sidecar: random.chance(0.4) ? undefined : random.between(0, shape.sidecars - 1),
      mode: random.pick(STORE_MODES),
      share: random.pick([0.05, 0.2, 0.5, 1]),
      forMs: random.pick([2_000, 10_000, 60_000]),
    }),
  ),
  ...Array.from(
    { length: 5 },
    (): Draw => (random, shape) => ({
      kind: "vendor_trouble",
      provider: someProvider(random, shape),
      mode: random.pick(VENDOR_MODES),
      share: random.pick([0.2, 0.5, 1, 1]),
      forMs: random.pick([20, 90, 180, 600]) * SECOND_MS,
    }),
  ),
  (random, shape) => ({
    kind: "kek_down",
    sidecar: random.chance(0.5) ? undefined : random.between(0, shape.sidecars - 1),
    forMs: random.pick([2_000, 20_000, 90_000]),
  }),
  (random, shape) => ({
    kind: "disk_full",
    sidecar: random.between(0, shape.sidecars - 1),
    forMs: random.pick([2_000, 60_000]),
  }),
  (random, shape) => ({
    kind: "clock_jump",
    sidecar: random.between(0, shape.sidecars - 1),
    byMs: random.pick([-3_600_000, -120_000, -5_000, 5_000, 120_000, 3_600_000]),
  }),
  (random, shape) => ({ kind: "lock_lost", ...someone(random, shape) }),
];

function faults(random: Random, shape: Shape): readonly Step[] {
  const count = random.chance(0.1) ? 0 : random.between(2, 14);
  const untilMs = Math.max(MINUTE_MS, shape.horizonMs - MINUTE_MS);
  const steps: Step[] = Array.from({ length: count }, () => ({
    atMs: random.between(0, untilMs),
    ...random.pick(FAULTS)(random, shape),
  }));
  // Enough accounts for a burst of refusals.
  if (shape.accounts > 5 && random.chance(0.6)) steps.push(outage(random, shape, untilMs));
  // One outage at a provider, so that none lasts long enough to be believed.
  const lied = new Set<number>();
  return steps.filter((step) => {
    if (step.kind !== "vendor_trouble" || step.mode !== "outage") return true;
    return lied.size < lied.add(step.provider).size;
  });
}

function outage(random: Random, shape: Shape, untilMs: number): Step {
  const forMs = random.between(1, 5) * MINUTE_MS;
  const provider = someProvider(random, shape);
  return {
    kind: "vendor_trouble",
    atMs: random.between(0, untilMs),
    provider,
    mode: "outage",
    share: 1,
    forMs,
  };
}
