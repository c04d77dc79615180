import { setTimeout as delay } from "node:timers/promises";
import type { Fault, HistoryEntry, Simulator } from "../../src/simulator/simulator.ts";
import type { Etcd } from "../backends/etcd.ts";
import type { Member } from "./fleet.ts";

/** Every way in which the provider misbehaves now and then; at 1 so rarely that most grants outlive five minutes. */
export function providerFaults(times: number): readonly Fault[] {
  const kinds: readonly Fault[] = [
    { kind: "status", status: 500, probability: 0.004 },
    { kind: "status", status: 502, redeems: true, probability: 0.002 },
    { kind: "status", status: 503, probability: 0.01 },
    { kind: "rate_limit", dialect: "retry_after_seconds", retryAfterMs: 1_000, probability: 0.004 },
    { kind: "reset_before", probability: 0.004 },
    { kind: "reset_after", probability: 0.002 },
    { kind: "truncate", probability: 0.002 },
    { kind: "hang", ms: 2_500, probability: 0.01 },
    { kind: "slow", ms: 800, probability: 0.02 },
  ];
  return kinds.map((fault) => ({
    ...fault,
    endpoint: "token",
    probability: (fault.probability ?? 0) * times,
  }));
}

const RESTARTS = 5;

type Disturbance = "a sidecar killed" | "a sidecar frozen" | "etcd killed";
const DISTURBANCES: readonly Disturbance[] = ["a sidecar killed", "a sidecar frozen", "etcd killed"];

const nameOf = (kind: string, status: number | undefined) => (kind === "status" ? `status ${status}` : kind);

/** Every kind of trouble that a run meets at least once. */
export const KINDS_OF_TROUBLE: readonly string[] = [
  ...DISTURBANCES,
  ...providerFaults(1).map((fault) => nameOf(fault.kind, "status" in fault ? fault.status : undefined)),
];

/** How often each kind of fault hit a request. */
export function faultsMet(requests: readonly HistoryEntry[]): Readonly<Record<string, number>> {
  const met: Record<string, number> = {};
  for (const { faults, status } of requests) {
    for (const kind of faults) {
      const name = nameOf(kind, status);
      met[name] = (met[name] ?? 0) + 1;
    }
  }
  return met;
}

export interface TroubleDeps {
  readonly members: readonly Member[];
  readonly etcd: Etcd;
  readonly simulator: Simulator;
  /** In [0, 1). */
  readonly random: () => number;
  /** The longest that a sidecar is frozen. */
  readonly freezeMs: number;
  readonly signal: AbortSignal;
  readonly say: (what: string) => void;
}

/**
 * Disturbs one thing after another until `signal` aborts; then everything runs again. Begins with one of each, in any
 * order, and goes on as luck has it. Returns how often each came and was over again.
 */
export async function makeTrouble(deps: TroubleDeps): Promise<Readonly<Record<Disturbance, number>>> {
  const { members, etcd, simulator, random, freezeMs, signal, say } = deps;
  const overcome = { "a sidecar killed": 0, "a sidecar frozen": 0, "etcd killed": 0 };
  const disturbances: Promise<void>[] = [];
  const pause = (ms: number) => delay(ms, undefined, { signal }).catch(() => undefined);
  const disturb = (member: Member, what: Disturbance, act: () => Promise<void>) => {
    member.isDisturbed = true;
    const over = () => {
      member.isDisturbed = false;
      overcome[what] += 1;
    };
    // One that does not come back is asked no more, and is missed by those whom it should answer in the end.
    disturbances.push(act().then(over, (error: unknown) => say(String(error).slice(0, 500))));
  };
  const act = async (what: Disturbance) => {
    const calm = members.filter(({ isDisturbed }) => !isDisturbed);
    const member = calm[Math.floor(random() * calm.length)];
    if (what === "etcd killed") {
      const ms = 200 + random() * 2_000;
      say(`etcd ends, for ${ms.toFixed(0)} ms`);
      await etcd.only.kill();
      await pause(ms);
      await restarted(etcd);
      overcome[what] += 1;
    } else if (member === undefined || calm.length < members.length / 2) {
    } else if (what === "a sidecar killed") {
      say(`${member.name} is killed`);
      disturb(member, what, async () => {
        await member.kill();
        await pause(random() * 1_000);
        await member.start();
      });
    } else {
      // Some longer than a lock lives, when the run is long enough for that.
      const ms = 300 + random() ** 3 * freezeMs;
      say(`${member.name} is frozen for ${ms.toFixed(0)} ms`);
      disturb(member, what, async () => {
        member.freeze();
        await pause(ms);
        member.thaw();
      });
    }
  };
  // Luck may never roll some of the provider's faults: one of each hits whichever request comes next.
  const provoke = async () => {
    for (const fault of shuffled(providerFaults(1), random)) {
      simulator.faults.add({ ...fault, probability: undefined, times: 1 });
      await pause(500);
    }
  };
  const provoked = provoke();
  const first = shuffled(DISTURBANCES, random);
  // On a machine that is busy with something else, what has to come comes a little later than the end.
  while (first.length > 0 || !signal.aborted) {
    await pause(500 + random() * 1_500);
    if (first.length === 0 && signal.aborted) break;
    await act(first.shift() ?? drawn(random()));
  }
  await Promise.all([provoked, ...disturbances]);
  return overcome;
}

function drawn(dice: number): Disturbance {
  if (dice < 0.06) return "etcd killed";
  return dice < 0.45 ? "a sidecar killed" : "a sidecar frozen";
}

function shuffled<T>(all: readonly T[], random: () => number): T[] {
  return all
    .map((one) => ({ one, at: random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ one }) => one);
}

/** On a machine that is busy with something else it may take several tries to come up in time. */
async function restarted(etcd: Etcd): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await etcd.only.restart();
      return;
    } catch (error) {
      if (tries === RESTARTS) throw error;
    }
  }
}
