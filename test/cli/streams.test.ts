import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AuditService } from "../../src/gen/keyturn/v1/audit_service_pb.js";
import { EventService } from "../../src/gen/keyturn/v1/event_service_pb.js";
import { KeyService } from "../../src/gen/keyturn/v1/key_service_pb.js";
import { type CannedSidecar, cannedSidecar, refusal } from "./canned-sidecar.ts";
import { after } from "./fixtures.ts";
import { type RunOptions, run } from "./run.ts";

let sidecar: CannedSidecar;
beforeAll(async () => {
  sidecar = await cannedSidecar();
});
afterAll(() => sidecar.stop());
const keyturn = (line: string, options: RunOptions = {}) =>
  run(line.split(" "), { sockets: sidecar.sockets, ...options });

describe("events tail", () => {
  const { watchEvents } = EventService.method;
  const event = {
    id: "op/0",
    cursor: "c-1",
    type: "integrated_account:token_refreshed",
    time: after(-1),
    provider: "salesforce",
    client: "default",
    accountId: "acme",
    tokenName: "bot",
    detail: { case: "token", value: { generation: 13n, expireTime: after(3_600) } },
  } as const;
  const failed = {
    ...event,
    type: "integrated_account:refresh_failed",
    tokenName: "default",
    reason: "transient",
    detail: { case: "failure", value: { providerCode: "oops", cause: "502", nextRefreshTime: after(7_200) } },
  } as const;
  const outage = { type: "provider:outage_suspected", provider: "salesforce", time: after(0) };
  const rotated = {
    type: "kek:rotated",
    detail: { case: "kek", value: { kekId: "local", version: 2 } },
  } as const;

  it("writes a line an event, and none for heartbeats", async () => {
    const events = [event, failed, outage, rotated].map((each) => ({ event: each, cursor: "c" }));
    sidecar.answer(watchEvents, { cursor: "c-0" }, ...events, "hang");
    const { stdout, exit } = await keyturn("events tail --count 4");
    expect(exit).toBe(0);
    expect(stdout.split("\n").map((line) => line.replaceAll(/ {2,}/g, "  "))).toEqual([
      "2026-11-24T07:59:59Z  integrated_account:token_refreshed  acme/bot (salesforce default)  generation 13, expires in 1 h",
      "2026-11-24T07:59:59Z  integrated_account:refresh_failed  acme (salesforce default)  transient, oops, 502, again in 2 h",
      "2026-11-24T08:00:00Z  provider:outage_suspected  salesforce",
      "kek:rotated  local version 2",
      "",
    ]);
  });

  it("sends whoever was too slow to the oldest event there is, not to their own cursor", async () => {
    const metadata = { class: "lifecycle", cursor: "c-1", oldest_cursor: "c-9" };
    const tooSlow = refusal(status.RESOURCE_EXHAUSTED, "SUBSCRIBER_TOO_SLOW", "Gone.", { metadata });
    sidecar.answer(watchEvents, { event, cursor: "c-1" }, tooSlow);
    const { stderr, exit } = await keyturn("events tail");
    expect(exit).toBe(1);
    expect(stderr).toContain("keyturn events tail --after c-9");
    expect(stderr).not.toContain("--after c-1");
  });

  it("writes each message, heartbeats with their cursor included, as JSON", async () => {
    sidecar.answer(watchEvents, { cursor: "c-0" }, { event, cursor: "c-1" }, "hang");
    const ran = await keyturn("events tail --count 1 --json");
    expect(ran.json()).toMatchObject([
      { cursor: "c-0" },
      { cursor: "c-1", event: { token: { generation: "13" }, accountId: "acme" } },
    ]);
    expect(ran.stderr).toBe("");
  });

  it("says when what is expiring ends", async () => {
    const expiring = {
      type: "oauth_client:expiring",
      provider: "adp",
      client: "main",
      reason: "certificate",
    };
    const endTime = timestampFromMs(Date.now() + 6 * 86_400_000 + 60_000);
    sidecar.answer(watchEvents, { event: { ...expiring, endTime } }, "hang");
    const ran = await keyturn("events tail --count 1");
    expect(ran.stdout).toMatch(/oauth_client:expiring +adp main +certificate, ends in \d+ d/);
  });

  it("asks for what it is told, short names completed", async () => {
    sidecar.answer(watchEvents, { event }, "hang");
    await keyturn(
      "events tail --count 1 --after c-9 --type token_refreshed --type outage_cleared --type secret_rotated --type kek:rotated --account acme --tenant t --provider p --label a=b",
    );
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      afterCursor: "c-9",
      types: [
        "integrated_account:token_refreshed",
        "provider:outage_cleared",
        "oauth_client:secret_rotated",
        "kek:rotated",
      ],
      accountIds: ["acme"],
      tenants: ["t"],
      providers: ["p"],
      labels: { a: "b" },
    });
  });

  it("says where to go on when the sidecar ends the stream", async () => {
    sidecar.answer(
      watchEvents,
      { event, cursor: "c-1" },
      refusal(status.UNAVAILABLE, "SHUTTING_DOWN", "Stopping."),
    );
    const ran = await keyturn("events tail");
    expect(ran.exit).toBe(4);
    expect(ran.stderr).toContain("keyturn events tail --after c-1");
    expect(ran.stderr).toContain("[SHUTTING_DOWN]");
  });
});

describe("keys rewrap", () => {
  const { rewrapKeys } = KeyService.method;
  const steps = [
    { done: 0n, total: 200n },
    { done: 1n, total: 200n },
    { done: 100n, total: 200n },
    { done: 200n, total: 200n, verified: 100n, finished: true },
  ];

  it("writes a line each tenth when it is not on a terminal", async () => {
    sidecar.answer(rewrapKeys, ...steps);
    const ran = await keyturn("keys rewrap --max-per-second 7");
    expect(ran).toMatchObject({
      exit: 0,
      stdout: "200 of 200 data keys rewrapped, 100 opened to verify.\n",
      stderr: "rewrap 0 % (0/200)\nrewrap 50 % (100/200)\nrewrap 100 % (200/200)\n",
    });
    expect(sidecar.seen.at(-1)?.request).toMatchObject({ maxPerSecond: 7 });
  });

  it("draws a bar on a terminal and leaves its line", async () => {
    sidecar.answer(rewrapKeys, ...steps);
    const { stderr } = await keyturn("keys rewrap", { columns: 80 });
    expect(stderr).toContain(`\r\u001b[Krewrap ${"█".repeat(15)}${"░".repeat(15)} 50 % (100/200)`);
    expect(stderr.endsWith("\n")).toBe(true);
  });

  it("writes each step as JSON", async () => {
    sidecar.answer(rewrapKeys, ...steps);
    const ran = await keyturn("keys rewrap --json");
    expect(ran.json().at(-1)).toEqual({ done: "200", total: "200", verified: "100", finished: true });
    expect(ran.stderr).toBe("");
  });

  it("is only partly done when the stream ends early", async () => {
    sidecar.answer(rewrapKeys, { done: 1n, total: 200n });
    const ran = await keyturn("keys rewrap");
    expect(ran.exit).toBe(1);
    expect(ran.stderr).toContain("run the command again to go on");
  });
});

describe("audit query", () => {
  const record = { instance: "node-1", seq: 7n, time: after(0), operation: "open", outcome: "ok", count: 3n };

  it("is a table, oldest first", async () => {
    sidecar.answer(AuditService.method.queryAudit, { record }, { record: { ...record, seq: 8n } });
    const ran = await keyturn("audit query --since 2026-11-01 --until 2026-12-01T00:00:00Z --account acme");
    expect(ran.stdout.split("\n")).toHaveLength(4);
    expect(ran.stdout).toContain("node-1/7");
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      accountId: "acme",
      startTime: { seconds: BigInt(Date.UTC(2026, 10, 1) / 1_000) },
    });
  });

  it("is JSON lines", async () => {
    sidecar.answer(AuditService.method.queryAudit, { record });
    expect((await keyturn("audit query --json")).json()).toMatchObject([{ seq: "7", count: "3" }]);
  });
});
