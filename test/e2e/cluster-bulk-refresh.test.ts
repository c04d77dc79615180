import { beforeAll, describe, expect, it } from "vitest";
import {
  AccountService,
  type BulkRefreshAccountsResponse,
  BulkRefreshOutcome,
} from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { afterAllTests, type Cluster, cluster, times } from "./cluster.ts";
import type { Caller } from "./harness.ts";
import type { Serving } from "./serving-process.ts";

const { bulkRefreshAccounts, createAccount } = AccountService.method;
const { putClient, getClientUsage } = OAuthClientService.method;

const MAIN = { provider: "simulator", name: "main", clientId: "demo-client", clientSecret: "demo-secret" };

const onEnd = afterAllTests();
let one: Cluster;
let first: Serving;
let second: Serving;
beforeAll(async () => {
  // Slow enough for something else to happen in the midst of it.
  one = await cluster({ sidecars: 2, onEnd, simulator: { latencyMs: 50 } });
  const [a, b] = one.sidecars;
  if (a === undefined || b === undefined) throw new Error("two sidecars were wanted");
  [first, second] = [a, b];
  await one.admin.call(putClient, { ...MAIN, caps: { maxConcurrent: 4 } });
}, 60_000);

type Selection = Parameters<typeof begin>[1];

/** Starts or goes on; what comes is in `said`, and `ended` resolves with the last of it. */
function begin(
  admin: Caller,
  request: {
    readonly client?: string;
    readonly provider?: string;
    readonly tenant?: string;
    readonly labels?: Record<string, string>;
    readonly dryRun?: boolean;
    readonly resumeCursor?: string;
  },
) {
  const said: BulkRefreshAccountsResponse[] = [];
  const stream = admin.stream(bulkRefreshAccounts, request);
  const ended = new Promise<BulkRefreshAccountsResponse | undefined>((resolve, reject) => {
    stream.on("data", (message: BulkRefreshAccountsResponse) => said.push(message));
    stream.on("error", reject);
    stream.on("end", () => resolve(said.at(-1)));
  });
  ended.catch(() => undefined);
  return { said, ended };
}

async function selected(request: Selection) {
  const { said, ended } = begin(second.admin, { ...request, dryRun: true });
  const last = await ended;
  expect(last).toMatchObject({ done: last?.total, failed: 0n, finished: true, cursor: "" });
  expect(said.filter(({ result }) => result !== undefined)).toHaveLength(Number(last?.total));
  return said.flatMap(({ result }) => result?.accountId ?? []).sort();
}

describe("a bulk refresh over etcd", () => {
  it("takes the accounts of exactly the client, the tenant or the labels that it is asked for", async () => {
    // Far enough for no schedule to ask their providers.
    const expireTime = { seconds: BigInt(Math.floor(Date.now() / 1_000) + 86_400), nanos: 0 };
    const at = (id: string, provider: string, client: string, tenant: string, region: string) =>
      one.admin.call(createAccount, {
        accountId: id,
        provider,
        client,
        tenant,
        labels: { region, tier: "gold" },
        fields: provider === "simulator" ? { port: String(one.simulator.port) } : {},
        credential: {
          kind: { case: "oauth", value: { accessToken: `at-${id}`, refreshToken: `rt-${id}`, expireTime } },
        },
      });
    await one.admin.call(putClient, { ...MAIN, name: "other" });
    await one.admin.call(putClient, { ...MAIN, provider: "asana" });
    await Promise.all([
      at("a", "simulator", "main", "acme", "eu"),
      at("b", "simulator", "main", "globex", "us"),
      at("c", "simulator", "other", "acme", "us"),
      at("d", "simulator", "other", "globex", "eu"),
      at("e", "asana", "main", "acme", "eu"),
      at("f", "asana", "main", "globex", "us"),
    ]);
    expect(await selected({ provider: "simulator", client: "main" })).toEqual(["a", "b"]);
    expect(await selected({ provider: "asana", client: "main" })).toEqual(["e", "f"]);
    expect(await selected({ provider: "simulator" })).toEqual(["a", "b", "c", "d"]);
    expect(await selected({ tenant: "acme" })).toEqual(["a", "c", "e"]);
    expect(await selected({ labels: { region: "eu", tier: "gold" } })).toEqual(["a", "d", "e"]);
    expect(await selected({ labels: { region: "eu", tier: "silver" } })).toEqual([]);
    const all = { provider: "simulator", client: "other", tenant: "acme", labels: { region: "us" } };
    expect(await selected(all)).toEqual(["c"]);
    expect(one.simulator.stats().tokenRequests).toBe(0);
  });

  it("goes on at another sidecar when its own is killed, refreshes each account once, and leaves room for who asks meanwhile", async () => {
    const COUNT = 80;
    const labels = { job: "leak" };
    await times(COUNT, (n) => one.connect(`leaked-${n}`, { expired: false, labels }));
    await times(3, (n) => one.connect(`live-${n}`, { expired: false }));
    const requests = (name: string) =>
      one.simulator.history().filter(({ subject }) => subject?.startsWith(name));
    const permits = async () => (await second.admin.call(getClientUsage, MAIN)).permitsTaken;

    const { said } = begin(first.admin, { labels });
    await expect.poll(() => requests("leaked-").length, { timeout: 20_000, interval: 20 }).toBeGreaterThan(8);
    // More than it has left makes a refresh of it.
    const minValidity = { seconds: 7_200n, nanos: 0 };
    await times(3, (n) =>
      second.data.call(
        CredentialService.method.getToken,
        { accountId: `live-${n}`, minValidity },
        { deadlineMs: 5_000 },
      ),
    );
    expect(requests("live-")).toHaveLength(3);
    expect(requests("leaked-").length).toBeLessThan(COUNT);

    // Throttled, it waits, and nothing is on its way that the kill could cost.
    one.simulator.faults.add({
      endpoint: "token",
      kind: "rate_limit",
      dialect: "retry_after_seconds",
      retryAfterMs: 4_000,
      times: 1,
    });
    const isQuiet = async () =>
      requests("leaked-").some(({ status }) => status === 429) && (await permits()) === 0;
    await expect.poll(isQuiet, { timeout: 20_000, interval: 20 }).toBe(true);
    await first.end("SIGKILL");
    const before = requests("leaked-").length;
    expect(before).toBeLessThan(COUNT);
    const cursor = said[0]?.cursor ?? "";
    expect(cursor).not.toBe("");

    const rest = begin(second.admin, { resumeCursor: cursor });
    const last = await rest.ended;
    expect(last).toMatchObject({ done: BigInt(COUNT), total: BigInt(COUNT), failed: 0n, finished: true });
    const outcomes = rest.said.flatMap(({ result }) => result?.outcome ?? []);
    expect(new Set(outcomes)).toEqual(new Set([BulkRefreshOutcome.REFRESHED]));
    const rotated = requests("leaked-").filter(({ outcome }) => outcome === "rotated");
    expect(new Set(rotated.map(({ subject }) => subject)).size).toBe(COUNT);
    expect(rotated).toHaveLength(COUNT);
    expect(requests("leaked-")).toHaveLength(COUNT + 1);
    expect(one.simulator.stats().reuseSeen).toBe(0);
  }, 60_000);
});
