import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, it, onTestFinished } from "vitest";
import { startSidecar } from "../../src/app.ts";
import { systemClock } from "../../src/clock.ts";
import { loadConfig } from "../../src/config/load.ts";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { startSimulator } from "../../src/simulator/simulator.ts";
import { startEtcd } from "../backends/etcd.ts";
import { times } from "./cluster.ts";
import { Caller, connectAccount, reasonOf } from "./harness.ts";

const SIDECARS = 20;
const WINDOW_MS = 60_000;
/** A window, the time in which the last send of a block may start, and that of its lease's bucket. */
const PAST_WINDOW_MS = 74_000;
const { getToken } = CredentialService.method;

it("a budget of 5 a minute over 20 sidecars is wholly there for one of them, and never exceeded", async () => {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-budget-"));
  const etcd = await startEtcd();
  const simulator = await startSimulator({ clock: systemClock() });
  const start = async (n: number) => {
    const flags = {
      state_dir: join(folder, String(n)),
      "store.backend": "etcd",
      "store.endpoints": etcd.urls.join(","),
      "kek.keyring_file": join(folder, "keyring.json"),
      "listeners.data.socket": join(folder, `d${n}.sock`),
      "listeners.admin.socket": join(folder, `a${n}.sock`),
      // What is measured is demand.
      roles: "serve",
    };
    const config = loadConfig({ file: undefined, env: {}, flags });
    const shippedProviders = join(import.meta.dirname, "../../providers");
    return startSidecar({ config, env: {}, log: () => undefined, shippedProviders });
  };
  // The first one makes the keyring.
  const first = await start(0);
  const sidecars = [first, ...(await times(SIDECARS - 1, (n) => start(n + 1)))];
  const callers = [new Caller(first.admin), ...sidecars.map(({ data }) => new Caller(data))];
  onTestFinished(async () => {
    for (const caller of callers) caller.close();
    await Promise.all(sidecars.map((sidecar) => sidecar.stop()));
    await Promise.all([etcd.stop(), simulator.close()]);
    rmSync(folder, { recursive: true, force: true });
  });
  const [admin, ...data] = callers;
  if (admin === undefined) throw new Error("no sidecar");
  await admin.call(OAuthClientService.method.putClient, {
    provider: "simulator",
    name: "main",
    clientId: "demo-client",
    clientSecret: "demo-secret",
    caps: { budget: { requests: 5, per: { seconds: 60n } } },
  });
  const ids = Array.from({ length: 30 }, (_, n) => `acct-${n}`);
  for (const id of ids) await connectAccount(admin, simulator, id);
  const ask = (n: number, accountId: string) =>
    data[n]?.call(getToken, { accountId }, { deadlineMs: 4_000 }).then(() => "token", reasonOf);

  const one = await Promise.all(ids.slice(0, 8).map((id) => ask(7, id)));
  expect(one.filter((answer) => answer === "token")).toHaveLength(5);
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
}, 120_000);

/** The most of them in any window of so long. */
function mostWithin(atMs: readonly number[], windowMs: number): number {
  return Math.max(...atMs.map((first) => atMs.filter((at) => at >= first && at - first < windowMs).length));
}
