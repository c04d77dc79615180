import { fromBinary } from "@bufbuild/protobuf";
import { type ServiceError, status } from "@grpc/grpc-js";
import { beforeAll, describe, expect, it } from "vitest";
import { RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { pathOf, rootOf } from "../../src/store/keys.ts";
import { key } from "../../src/tokens/records.ts";
import { afterAllTests, type Cluster, cluster, subscribe } from "./cluster.ts";
import { causeOf, reasonOf } from "./harness.ts";

const { getToken } = CredentialService.method;
const RETRY_AFTER_MS = 5_000;
/** For an event's way to its subscriber, on a busy machine. */
const TOLD = { timeout: 10_000 };

const onEnd = afterAllTests();
let one: Cluster;
beforeAll(async () => {
  // Nobody asks the provider but whom a test asks.
  one = await cluster({ sidecars: 3, onEnd, config: "roles: [serve]" });
}, 60_000);

function sidecar(n: number) {
  const found = one.sidecars[n];
  if (found === undefined) throw new Error("no sidecar");
  return found;
}

/** What a caller of one sidecar hears; `retryAfterMs` is RetryInfo's. */
async function ask(n: number, accountId: string) {
  try {
    await sidecar(n).data.call(getToken, { accountId });
    return { answer: "token" };
  } catch (error) {
    const { code } = error as ServiceError;
    return { answer: reasonOf(error), cause: causeOf(error), code, retryAfterMs: retryAfterOf(error) };
  }
}

function retryAfterOf(error: unknown): number | undefined {
  const [details] = (error as ServiceError).metadata?.get("grpc-status-details-bin") ?? [];
  if (!(details instanceof Buffer)) return undefined;
  const info = fromBinary(StatusSchema, details).details.find(({ typeUrl }) =>
    typeUrl.endsWith("google.rpc.RetryInfo"),
  );
  const delay = info && fromBinary(RetryInfoSchema, info.value).retryDelay;
  return delay && Number(delay.seconds) * 1_000 + delay.nanos / 1e6;
}

const requests = () => one.simulator.history();

describe("what one sidecar hears from a token endpoint", () => {
  it("holds all of them back: a 429 with its Retry-After", { timeout: 60_000 }, async () => {
    await Promise.all(["throttled", "other"].map((id) => one.connect(id)));
    one.simulator.faults.add({
      kind: "rate_limit",
      dialect: "retry_after_seconds",
      retryAfterMs: RETRY_AFTER_MS,
      endpoint: "token",
      times: 1,
    });
    expect(await ask(0, "throttled")).toMatchObject({ answer: "PROVIDER_RATE_LIMITED" });

    const heard = await ask(1, "other");
    expect(heard).toMatchObject({
      answer: "PROVIDER_RATE_LIMITED",
      cause: "token_endpoint",
      code: status.RESOURCE_EXHAUSTED,
    });
    expect(heard.retryAfterMs).toBeGreaterThanOrEqual(1_000);
    expect(heard.retryAfterMs).toBeLessThanOrEqual(RETRY_AFTER_MS);
    expect(requests()).toHaveLength(1);

    await expect
      .poll(async () => (await ask(1, "other")).answer, { timeout: 20_000, interval: 100 })
      .toBe("token");
    const [first, second] = requests();
    expect(requests()).toHaveLength(2);
    const pauseMs = (second?.arrivedAtMs ?? 0) - (first?.endedAtMs ?? 0);
    expect(pauseMs).toBeGreaterThanOrEqual(RETRY_AFTER_MS);
  });

  it("makes its provider suspect to all of them: the fourth refusal within a minute, wherever the first three were", {
    timeout: 60_000,
  }, async () => {
    const ids = ["first", "second", "third", "fourth", "fifth"];
    await Promise.all(ids.map((id) => one.connect(id)));
    const { seen, end } = subscribe(sidecar(1).data, []);
    const seenOf = (type: string) => seen.filter((event) => event.endsWith(type)).toSorted();
    const flagged = ["first", "second", "third"];
    const refused = await refusedEverywhere(flagged);
    expect(refused).toEqual(flagged.map(() => "REAUTHORIZATION_REQUIRED"));

    const suspected = { answer: "PROVIDER_UNAVAILABLE", cause: "outage_suspected", code: status.UNAVAILABLE };
    expect(await ask(0, "fourth")).toMatchObject(suspected);
    const sent = requests().length;
    expect(await ask(1, "fifth")).toMatchObject(suspected);
    expect(await ask(2, "fourth")).toMatchObject(suspected);
    expect(requests()).toHaveLength(sent);
    await expect.poll(() => seenOf("provider:outage_suspected"), TOLD).toHaveLength(1);
    expect(seenOf("integrated_account:authentication_error")).toEqual(
      flagged.map((id) => `${id} integrated_account:authentication_error`).toSorted(),
    );

    // A probe goes out once a minute; its pause ends here as it does in the store, by the end of a key.
    one.simulator.faults.clear();
    await endPause();
    await expect
      .poll(async () => (await ask(2, "fifth")).answer, { timeout: 10_000, interval: 100 })
      .toBe("token");
    await expect.poll(() => seenOf("provider:outage_cleared"), TOLD).toHaveLength(1);
    await expect
      .poll(() => seenOf("integrated_account:reactivated"), TOLD)
      .toEqual(flagged.map((id) => `${id} integrated_account:reactivated`).toSorted());
    end();
    const answers = await Promise.all([...flagged, "fourth"].map((id, n) => ask(n % 3, id)));
    expect(answers.map(({ answer }) => answer)).toEqual(["token", "token", "token", "token"]);
  });
});

/** Each at a sidecar of its own, one after the other. */
async function refusedEverywhere(ids: readonly string[]): Promise<readonly string[]> {
  one.simulator.faults.add({ kind: "invalid_grant", endpoint: "token" });
  const answers: string[] = [];
  for (const [n, id] of ids.entries()) answers.push((await ask(n, id)).answer);
  return answers;
}

async function endPause(): Promise<void> {
  const path = rootOf("development") + pathOf(key("cooldown", "simulator", "main"));
  const { deleted } = await one.etcd.call("kv/deleterange", { key: Buffer.from(path).toString("base64") });
  expect(deleted).toBe("1");
}
