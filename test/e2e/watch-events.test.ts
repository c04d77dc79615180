import type { ClientReadableStream, ServiceError } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { EventService, type WatchEventsResponse } from "../../src/gen/keyturn/v1/event_service_pb.js";
import { tempFolder } from "../fakes/temp-folder.ts";
import { reasonOf, type Scene, scene } from "./harness.ts";
import { serve } from "./serving-process.ts";

const { watchEvents } = EventService.method;

type Events = ClientReadableStream<WatchEventsResponse>;

/** Reads until `count` events have come; heartbeats are passed over. */
async function take(
  stream: Events,
  count: number,
): Promise<readonly NonNullable<WatchEventsResponse["event"]>[]> {
  const events: NonNullable<WatchEventsResponse["event"]>[] = [];
  try {
    for await (const message of stream) {
      const { event } = message as WatchEventsResponse;
      if (event !== undefined) events.push(event);
      if (events.length >= count) break;
    }
  } finally {
    stream.cancel();
  }
  return events;
}

/** The first message, which says that the subscription stands. */
async function standing(stream: Events): Promise<WatchEventsResponse> {
  return new Promise((resolve, reject) => {
    stream.once("data", (message: WatchEventsResponse) => {
      stream.pause();
      resolve(message);
    });
    stream.once("error", reject);
  });
}

async function failure(stream: Events): Promise<string> {
  return new Promise((resolve) => {
    stream.on("data", () => undefined);
    stream.once("error", (error: ServiceError) => resolve(reasonOf(error)));
    stream.once("end", () => resolve("ended"));
  });
}

async function makeEvents(at: Pick<Scene, "connect">, from: number, to: number): Promise<void> {
  for (let n = from; n < to; n += 1)
    await at.connect(`a-${n}`, { expired: false, labels: { parity: n % 2 === 0 ? "even" : "odd" } });
}

describe("WatchEvents", () => {
  it("says at once that it stands, then tells what happens, and nothing from before", async () => {
    await using at = await scene();
    await at.connect("before", { expired: false });
    const stream = at.data.stream(watchEvents, {});
    const first = await standing(stream);
    expect(first.event).toBeUndefined();
    expect(first.cursor).not.toBe("");
    await at.connect("a", { expired: false });
    await at.admin.call(AccountService.method.refreshAccount, { accountId: "a" });
    const events = await take(stream, 2);
    expect(events.map(({ type, accountId }) => [type, accountId])).toEqual([
      ["integrated_account:created", "a"],
      ["integrated_account:token_refreshed", "a"],
    ]);
    expect(events[1]).toMatchObject({
      tenant: "acme",
      provider: "simulator",
      client: "main",
      reason: "operator",
    });
  });

  it("filters by type, tenant, provider, account and label, all of them together", async () => {
    await using at = await scene();
    const { cursor } = await standing(at.data.stream(watchEvents, {}));
    await makeEvents(at, 0, 6);
    await at.admin.call(AccountService.method.refreshAccount, { accountId: "a-2" });
    const ids = async (filter: object, count: number) =>
      (await take(at.data.stream(watchEvents, { afterCursor: cursor, ...filter }), count)).map(
        ({ type, accountId }) => `${type.split(":")[1]} ${accountId}`,
      );
    expect(await ids({ expired: false, labels: { parity: "odd" } }, 3)).toEqual([
      "created a-1",
      "created a-3",
      "created a-5",
    ]);
    expect(await ids({ accountIds: ["a-2"] }, 2)).toEqual(["created a-2", "token_refreshed a-2"]);
    expect(await ids({ types: ["integrated_account:token_refreshed"] }, 1)).toEqual(["token_refreshed a-2"]);
    expect(await ids({ tenants: ["acme"], providers: ["simulator"], accountIds: ["a-4", "a-5"] }, 2)).toEqual(
      ["created a-4", "created a-5"],
    );
    const none = at.data.stream(watchEvents, { afterCursor: cursor, tenants: ["other"] });
    await standing(none);
    none.cancel();
  });

  it("refuses what is no cursor, and says that another store's has expired", async () => {
    await using at = await scene();
    expect(await failure(at.data.stream(watchEvents, { afterCursor: "nonsense" }))).toBe("INVALID_REQUEST");
    const other = Buffer.from(JSON.stringify(["other-store", 1, 0])).toString("base64url");
    expect(await failure(at.data.stream(watchEvents, { afterCursor: other }))).toBe("CURSOR_EXPIRED");
  });

  it("ends streams with a cursor when the sidecar stops", async () => {
    const at = await scene();
    const stream = at.data.stream(watchEvents, {});
    await standing(stream);
    const ended = failure(stream);
    await at.stop();
    expect(await ended).toBe("SHUTTING_DOWN");
  });

  it("delivers a slow subscriber's backlog whole and in order, and lets nobody wait for it", async () => {
    await using at = await scene();
    await at.connect("a", { expired: false });
    const slow = at.data.stream(watchEvents, {});
    await standing(slow);
    const note = "x".repeat(1_500);
    for (let n = 0; n < 300; n += 1) {
      const account = { accountId: `fat-${n}`, tenant: "acme", provider: "simulator", client: "main" };
      await at.admin.call(AccountService.method.createAccount, { ...account, labels: { note } });
    }
    await at.data.call(CredentialService.method.getToken, { accountId: "a" });
    const events = await take(slow, 300);
    expect(events.map(({ accountId }) => accountId)).toEqual(
      Array.from({ length: 300 }, (_, n) => `fat-${n}`),
    );
  });

  it("resumes after a kill -9 exactly: none lost, none twice, none out of order", async () => {
    const stateDir = tempFolder();
    let sidecar = await serve({ stateDir });
    const account = { tenant: "acme", provider: "bamboohr" };
    const key = { kind: { case: "apiKey" as const, value: { apiKey: "k-0123456789abcdef" } } };
    const make = async (from: number, to: number) => {
      for (let n = from; n < to; n += 1)
        await sidecar.admin.call(AccountService.method.createAccount, {
          ...account,
          accountId: `a-${n}`,
          fields: { subdomain: "acme" },
          credential: key,
        });
    };
    const { cursor } = await standing(sidecar.data.stream(watchEvents, {}));
    await make(0, 30);
    const seen = await take(sidecar.data.stream(watchEvents, { afterCursor: cursor }), 17);
    const last = seen.at(-1)?.cursor ?? "";
    await make(30, 40);
    await sidecar.end("SIGKILL");
    sidecar = await serve({ stateDir });
    await make(40, 50);
    const rest = await take(sidecar.data.stream(watchEvents, { afterCursor: last }), 33);
    const all = [...seen, ...rest];
    expect(all.map(({ accountId }) => accountId)).toEqual(Array.from({ length: 50 }, (_, n) => `a-${n}`));
    expect(new Set(all.map(({ id }) => id)).size).toBe(50);
    await sidecar.end("SIGTERM");
  });
});
