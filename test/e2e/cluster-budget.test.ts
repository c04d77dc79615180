import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { cluster, times } from "./cluster.ts";
import { reasonOf } from "./harness.ts";

const SIDECARS = 20;
/** How many start at once: each of them reads its whole program. */
const AT_ONCE = 5;
const WINDOW_MS = 60_000;
/** A window, the time in which the last send of a block may start, and that of its lease's bucket. */
const PAST_WINDOW_MS = 74_000;
const { getToken } = CredentialService.method;

it("a budget of 5 a minute over 20 sidecars is wholly there for one of them, and never exceeded", async () => {
  // What is measured is demand.
  const one = await cluster({ sidecars: AT_ONCE, config: "roles: [serve]" });
  const sidecars = [...one.sidecars];
  while (sidecars.length < SIDECARS)
    sidecars.push(...(await times(AT_ONCE, (n) => one.serve(`s${sidecars.length + n}`))));
  const { admin, simulator } = one;
  await admin.call(OAuthClientService.method.putClient, {
    provider: "simulator",
    name: "main",
    clientId: "demo-client",
    clientSecret: "demo-secret",
    caps: { budget: { requests: 5, per: { seconds: 60n } } },
  });
  const ids = Array.from({ length: 30 }, (_, n) => `acct-${n}`);
  for (const id of ids) await one.connect(id);
  const ask = (n: number, accountId: string) =>
    sidecars[n]?.data.call(getToken, { accountId }, { deadlineMs: 4_000 }).then(() => "token", reasonOf);

  const demand = await Promise.all(ids.slice(0, 8).map((id) => ask(7, id)));
  expect(demand.filter((answer) => answer === "token")).toHaveLength(5);
  const others = await Promise.all(ids.slice(8).map((id, n) => ask(n % SIDECARS, id)));
  expect(others).not.toContain("token");
  expect(simulator.stats().tokenRequests).toBe(5);

  // All of them go on asking for all the time that the window and the next one's five take.
  const untilMs = (simulator.history()[0]?.arrivedAtMs ?? 0) + PAST_WINDOW_MS;
  for (let n = 0; Date.now() < untilMs; n += 1)
    await Promise.race([ask(n % SIDECARS, ids[5 + (n % 25)] ?? ""), delay(250)]);
  const arrivals = simulator.history().map(({ arrivedAtMs }) => arrivedAtMs);
  expect(mostWithin(arrivals, WINDOW_MS)).toBe(5);
  expect(arrivals).toHaveLength(10);
}, 180_000);

/** The most of them in any window of so long. */
function mostWithin(atMs: readonly number[], windowMs: number): number {
  return Math.max(...atMs.map((first) => atMs.filter((at) => at >= first && at - first < windowMs).length));
}
