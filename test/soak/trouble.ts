import { setTimeout as delay } from "node:timers/promises";
import type { Fault, Simulator } from "../../src/simulator/simulator.ts";
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

/** Disturbs one thing after another until `signal` aborts; then everything runs again. */
export async function makeTrouble({
  members,
  etcd,
  random,
  freezeMs,
  signal,
  say,
}: TroubleDeps): Promise<void> {
  const disturbances: Promise<void>[] = [];
  const pause = (ms: number) => delay(ms, undefined, { signal }).catch(() => undefined);
  const disturb = (member: Member, what: string, act: () => Promise<void>) => {
    say(`${member.name} ${what}`);
    member.isDisturbed = true;
    const over = () => {
      member.isDisturbed = false;
    };
    // One that does not come back is asked no more, and is missed by nobody else.
    disturbances.push(act().then(over, (error: unknown) => say(String(error).slice(0, 500))));
  };
  while (!signal.aborted) {
    await pause(500 + random() * 1_500);
    if (signal.aborted) break;
    const calm = members.filter(({ isDisturbed }) => !isDisturbed);
    const member = calm[Math.floor(random() * calm.length)];
    const dice = random();
    if (dice < 0.06) {
      const ms = 200 + random() * 2_000;
      say(`etcd ends, for ${ms.toFixed(0)} ms`);
      await etcd.only.kill();
      await pause(ms);
      await restarted(etcd);
    } else if (member === undefined || calm.length < members.length / 2) {
    } else if (dice < 0.45) {
      disturb(member, "is killed", async () => {
        await member.kill();
        await pause(random() * 1_000);
        await member.start();
      });
    } else {
      // Some longer than a lock lives, when the run is long enough for that.
      const ms = 300 + random() ** 3 * freezeMs;
      disturb(member, `is frozen for ${ms.toFixed(0)} ms`, async () => {
        member.freeze();
        await pause(ms);
        member.thaw();
      });
    }
  }
  await Promise.all(disturbances);
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
