import { describe, expect, it } from "vitest";
import { catalogueOf } from "../../src/providers/load.ts";
import type { Send, Sent } from "../../src/providers/send.ts";
import { createVendors } from "../../src/providers/vendors.ts";
import { oauthFile, providerOf } from "../providers/stage.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS, Stage } from "./stage.ts";

const FILE = oauthFile(
  "",
  `    followUps:
      - url: https://rest.acme.example/login
        params: { with: "\${access_token}" }
        response: { map: { access_token: body.session } }`,
);
const ANSWER_MS = 100;

type Says = { readonly status: number; readonly body: object } | "silence" | "unreachable";

/** A vendor whose refresh tokens work once, and whose tokens need a login before they are of any use. */
class TwoStepVendor {
  readonly refreshed: string[] = [];
  readonly loggedIn: string[] = [];
  /** Refresh tokens that came a second time: the grant would be lost. */
  readonly reused: string[] = [];
  /** What the next logins come to, instead of a session. */
  readonly logins: Says[] = [];
  /** How many answers lay on the disk when a login arrived. */
  readonly keptAtLogin: number[] = [];
  stage: Stage | undefined;
  #live = "rt-a";

  readonly send: Send = (request) => {
    const { stage } = this;
    if (stage === undefined) throw new Error("no stage yet");
    if (request.beforeFirstByte?.() === false)
      return Promise.resolve({ kind: "not_sent", cause: "withdrawn" });
    const form = new URLSearchParams(Buffer.from(request.body ?? []).toString());
    const says = request.url.includes("rest.acme") ? this.#login(form) : this.#refresh(form);
    return new Promise((resolve) => {
      request.signal?.addEventListener("abort", () => resolve({ kind: "unknown", cause: "timeout" }));
      if (says === "unreachable") resolve({ kind: "not_sent", cause: "dns_failed" });
      else if (says !== "silence") stage.time.after(ANSWER_MS, () => resolve(this.#answer(says)));
    });
  };

  #refresh(form: URLSearchParams): Says {
    const token = form.get("refresh_token") ?? "";
    this.refreshed.push(token);
    if (token !== this.#live) {
      this.reused.push(token);
      return { status: 400, body: { error: "invalid_grant" } };
    }
    this.#live = `rt-${this.refreshed.length}`;
    const n = this.refreshed.length;
    return { status: 200, body: { access_token: `at-${n}`, refresh_token: this.#live, expires_in: 3_600 } };
  }

  #login(form: URLSearchParams): Says {
    const token = form.get("with") ?? "";
    this.loggedIn.push(token);
    this.keptAtLogin.push(this.stage?.journal.kept.size ?? 0);
    return this.logins.shift() ?? { status: 200, body: { session: `session-of-${token}` } };
  }

  #answer({ status, body }: Exclude<Says, string>): Sent {
    const nowMs = this.stage?.nowMs ?? 0;
    const times = { requestedAtMs: nowMs - ANSWER_MS, receivedAtMs: nowMs };
    return { kind: "answer", status, headers: [], body: Buffer.from(JSON.stringify(body)), ...times };
  }
}

async function stageOf() {
  const vendor = new TwoStepVendor();
  const catalogue = catalogueOf(new Map([["vendor", providerOf(FILE, "vendor")]]));
  const nowMs = () => vendor.stage?.nowMs ?? 0;
  const vendors = createVendors({ catalogue: () => catalogue, send: vendor.send, now: nowMs });
  const stage = await Stage.open({ vendors: () => vendors });
  vendor.stage = stage;
  return { vendor, stage };
}

describe("an exchange of two requests", () => {
  it("hands out what the second one gives, the first answer on the disk before it was sent", async () => {
    const { vendor, stage } = await stageOf();
    await stage.connect("a");
    expect(await stage.ask("a")).toMatchObject({ token: "session-of-at-1", generation: 2 });
    expect(vendor.keptAtLogin).toEqual([1]);
    expect(stage.journal.kept.size).toBe(0);
    expect(stage.leftovers("a")).toEqual([]);
    await stage.pass(HOUR_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "session-of-at-2", generation: 3 });
    expect(vendor.reused).toEqual([]);
  });

  it("goes on from the kept answer after a kill at any moment, and never sends the first request again", async () => {
    let resumed = 0;
    for (let afterMs = 0; afterMs <= 2.5 * ANSWER_MS; afterMs += 5) {
      const { vendor, stage } = await stageOf();
      await stage.connect("a");
      void stage.get("a");
      await stage.pass(afterMs);
      stage.kill();
      const kept = stage.journal.kept.size;
      const before = { refreshed: vendor.refreshed.length, loggedIn: vendor.loggedIn.length };
      stage.revive();
      await stage.start();
      if (kept === 0) continue;
      const isWhole = kept === 2 || before.loggedIn === 0 || vendor.loggedIn.length === 2;
      expect(isWhole, `killed after ${afterMs} ms`).toBe(true);
      if (kept === 1 && before.loggedIn === 1) resumed += 1;
      expect(await stage.ask("a")).toMatchObject({ token: "session-of-at-1", generation: 2 });
      expect(vendor.refreshed, `killed after ${afterMs} ms`).toHaveLength(1);
      await stage.pass(2 * HOUR_MS);
      expect(await stage.ask("a")).toMatchObject({ token: expect.stringMatching(/^session-of-at-/) });
      expect(vendor.reused).toEqual([]);
      expect(stage.journal.kept.size).toBe(0);
    }
    expect(resumed).toBeGreaterThan(5);
  });

  it("resumes once more when it is killed while it resumes, and saves the refresh token when it cannot", async () => {
    const { vendor, stage } = await stageOf();
    await stage.connect("a");
    void stage.get("a");
    await stage.pass(1.5 * ANSWER_MS);
    stage.kill();
    stage.revive();
    void stage.heart.start();
    await stage.pass(ANSWER_MS / 2);
    stage.kill();
    vendor.logins.push("unreachable");
    stage.revive();
    await stage.start();
    expect(vendor.loggedIn).toEqual(["at-1", "at-1", "at-1"]);
    expect(stage.slot("a")).toMatchObject({ state: "active", generation: 2, failures: 1 });
    await stage.pass(MINUTE_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "session-of-at-2" });
    expect(vendor.refreshed).toEqual(["rt-a", "rt-1"]);
    expect(vendor.reused).toEqual([]);
  });

  it.each<[string, Says]>([
    ["fails", { status: 503, body: {} }],
    ["is throttled", { status: 429, body: {} }],
    ["cannot be reached", "unreachable"],
    ["is never answered", "silence"],
    ["answers what the file does not map", { status: 200, body: { session: 7 } }],
  ])(
    "keeps the new refresh token and the old token in service when the second one %s",
    async (_what, says) => {
      const { vendor, stage } = await stageOf();
      await stage.connect("a", 20 * MINUTE_MS);
      vendor.logins.push(says);
      const pressing = { minValidityMs: 30 * MINUTE_MS, deadlineMs: 2 * MINUTE_MS };
      expect(await stage.ask("a", pressing)).toMatchObject({ token: "at-a" });
      // Longer than anything is listened to.
      await stage.pass(MINUTE_MS);
      expect(stage.slot("a")).toMatchObject({ state: "active", generation: 2, failures: 1 });
      expect(stage.count("integrated_account:refresh_failed", "a")).toBe(1);
      expect(stage.count("integrated_account:token_refreshed", "a")).toBe(0);
      expect(stage.leftovers("a")).toEqual([]);
      expect(stage.journal.kept.size).toBe(0);
      await stage.pass(5 * MINUTE_MS);
      expect(await stage.ask("a", pressing)).toMatchObject({ token: "session-of-at-2" });
      expect(vendor.refreshed).toEqual(["rt-a", "rt-1"]);
      expect(vendor.reused).toEqual([]);
    },
  );

  it("flags the account once when the second one is refused for good, the new refresh token stored", async () => {
    const { vendor, stage } = await stageOf();
    await stage.connect("a");
    vendor.logins.push({ status: 401, body: {} });
    expect(await stage.ask("a")).toMatchObject({ reason: "REAUTHORIZATION_REQUIRED" });
    expect(stage.slot("a")).toMatchObject({ state: "needs_reauth", generation: 2 });
    expect(stage.count("integrated_account:authentication_error", "a")).toBe(1);
    expect(vendor.refreshed).toHaveLength(1);
  });

  it("does not send the second one when the first answer could not be kept", async () => {
    const { vendor, stage } = await stageOf();
    await stage.connect("a", 20 * MINUTE_MS);
    stage.journal.keeping.fail(() => new Error("the disk does not write"));
    const pressing = { minValidityMs: 30 * MINUTE_MS };
    expect(await stage.ask("a", pressing)).toMatchObject({ token: "at-a" });
    stage.journal.keeping.end();
    expect(vendor.loggedIn).toEqual([]);
    await stage.pass(MINUTE_MS);
    expect(await stage.ask("a", pressing)).toMatchObject({ token: "session-of-at-2" });
    expect(vendor.refreshed).toEqual(["rt-a", "rt-1"]);
  });

  it("is resumed by nobody while an operator holds the client: what it got is saved", async () => {
    const { vendor, stage } = await stageOf();
    await stage.connect("a");
    void stage.get("a");
    await stage.pass(1.5 * ANSWER_MS);
    stage.kill();
    stage.revive();
    await stage
      .within(SECOND_MS, stage.heart.clients.hold("vendor", "main", "op", ""))
      .catch(() => undefined);
    await stage.start();
    expect(vendor.loggedIn).toHaveLength(1);
    expect(stage.slot("a")).toMatchObject({ generation: 2 });
    await stage.within(SECOND_MS, stage.heart.clients.release("vendor", "main"));
    await stage.pass(MINUTE_MS);
    expect(await stage.ask("a")).toMatchObject({ token: "session-of-at-2" });
    expect(vendor.reused).toEqual([]);
  });
});
