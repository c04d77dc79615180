import { stripVTControlCharacters } from "node:util";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AccountService, AccountStatus } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { type CannedSidecar, cannedSidecar, refusal } from "./canned-sidecar.ts";
import { ACME, after } from "./fixtures.ts";
import { type RunOptions, run } from "./run.ts";

const { method } = AccountService;
let sidecar: CannedSidecar;
beforeAll(async () => {
  sidecar = await cannedSidecar();
});
afterAll(() => sidecar.stop());

const keyturn = (line: string, options: RunOptions = {}) =>
  run(line.split(" "), { sockets: sidecar.sockets, ...options });

describe("accounts list", () => {
  const other = {
    ...ACME,
    id: "b",
    status: AccountStatus.NEEDS_REAUTH,
    statusReason: "invalid_grant",
    slots: [],
  };

  it("tells a filter that nothing fits from a store that is empty", async () => {
    sidecar.answer(method.listAccounts, { accounts: [] });
    expect((await keyturn("accounts list --status NEEDS_REAUTH")).stderr).toBe("No accounts match.\n");
    expect((await keyturn("accounts list")).stderr).toContain("keyturn accounts create --help");
  });

  it("is an aligned table with absolute times when piped", async () => {
    sidecar.answer(method.listAccounts, { accounts: [ACME, other] });
    const { stdout, exit } = await keyturn("accounts list");
    expect(exit).toBe(0);
    expect(stdout).toBe(
      [
        "ACCOUNT          STATUS        PROVIDER    CLIENT   TENANT  EXPIRES               NEXT REFRESH          REASON",
        "acme-salesforce  ACTIVE        salesforce  default  acme    2026-11-24T09:00:00Z  2026-11-24T08:58:00Z  -",
        "b                NEEDS_REAUTH  salesforce  default  acme    -                     -                     invalid_grant",
        "",
      ].join("\n"),
    );
  });

  it("fits a terminal, in colour, with relative times and never a clipped id", async () => {
    sidecar.answer(method.listAccounts, { accounts: [ACME, other] });
    const { stdout } = await keyturn("accounts list", { columns: 90 });
    expect(stdout).toContain("acme-salesforce");
    expect(stdout).toContain("in 1 h");
    expect(stdout).toContain("\u001b[31mNEEDS_REAUTH\u001b[0m");
    for (const line of stripVTControlCharacters(stdout).split("\n")) {
      expect(line.length).toBeLessThanOrEqual(90);
    }
  });

  it.each([[{ NO_COLOR: "1" }], [{ TERM: "dumb" }]])("has no colour with %j", async (env) => {
    sidecar.answer(method.listAccounts, { accounts: [ACME] });
    expect((await keyturn("accounts list", { columns: 90, env })).stdout).not.toContain("\u001b");
  });

  it("is one proto-JSON account a line with --json", async () => {
    sidecar.answer(method.listAccounts, { accounts: [ACME, other] });
    const ran = await keyturn("accounts list --json");
    expect(ran.json()).toMatchObject([
      {
        id: "acme-salesforce",
        status: "ACCOUNT_STATUS_ACTIVE",
        slots: [{ generation: "12", expireTime: "2026-11-24T09:00:00Z", consecutiveFailures: 0 }],
      },
      { id: "b", status: "ACCOUNT_STATUS_NEEDS_REAUTH", statusReason: "invalid_grant", slots: [] },
    ]);
  });

  it("asks for page after page until its limit and says when there are more", async () => {
    sidecar.answer(
      method.listAccounts,
      { accounts: [{ id: "a" }, { id: "b" }], nextPageToken: "p2" },
      { accounts: [{ id: "c" }, { id: "d" }], nextPageToken: "p3" },
    );
    const ran = await keyturn("accounts list --limit 3");
    expect(sidecar.seen.slice(-2).map(({ request }) => request)).toMatchObject([
      { pageSize: 3, pageToken: "" },
      { pageSize: 1, pageToken: "p2" },
    ]);
    expect(ran.stdout).toContain("\nc ");
    expect(ran.stdout).not.toContain("\nd ");
    expect(ran.stderr).toContain("There are more");
  });

  it("sends its filters", async () => {
    sidecar.answer(method.listAccounts, {});
    await keyturn(
      "accounts list --tenant t --provider p --client c --status needs_reauth --label a=b --label c=d=e",
    );
    expect(sidecar.seen.at(-1)?.request).toMatchObject({
      tenant: "t",
      provider: "p",
      client: "c",
      status: AccountStatus.NEEDS_REAUTH,
      labels: { a: "b", c: "d=e" },
    });
  });

  it("writes names that would move the cursor harmlessly", async () => {
    sidecar.answer(method.listAccounts, { accounts: [{ ...ACME, tenant: "\u001b[31mevil\n" }] });
    expect((await keyturn("accounts list")).stdout).toContain("\ufffd[31mevil\ufffd");
  });
});

describe("accounts get", () => {
  it("shows the account and each token without a secret", async () => {
    sidecar.answer(method.getAccount, { account: ACME });
    const { stdout } = await keyturn("accounts get acme-salesforce");
    expect(stdout).toMatch(/^account {3,}acme-salesforce$/m);
    expect(stdout).toMatch(/^expires +2026-11-24T09:00:00Z \(in 1 h\)$/m);
    expect(stdout).toMatch(/^secret +…a1b2$/m);
  });
});

describe("accounts that change", () => {
  it("updates labels over what is there, guarded by the revision it read", async () => {
    sidecar.answer(method.getAccount, { account: { ...ACME, labels: { team: "crm", trial: "1" } } });
    sidecar.answer(method.updateAccount, { account: ACME });
    await keyturn("accounts update acme-salesforce --label tier=1 --remove-label trial");
    expect(sidecar.seen.at(-1)).toMatchObject({
      rpc: "AccountService/UpdateAccount",
      request: {
        labels: { team: "crm", tier: "1" },
        updateMask: { paths: ["labels"] },
        revision: "rev-account",
      },
    });
  });

  it("does not update when nothing is named", async () => {
    expect((await keyturn("accounts update acme-salesforce")).exit).toBe(2);
  });

  it.each(["enable", "disable"])("%ss", async (verb) => {
    sidecar.answer(method.enableAccount, { account: ACME });
    sidecar.answer(method.disableAccount, { account: ACME });
    const ran = await keyturn(`accounts ${verb} acme-salesforce`);
    expect(ran.exit).toBe(0);
    expect(ran.stdout).toContain(`acme-salesforce is ${verb}d`);
  });

  it("deletes, and is partly done when the provider did not confirm the revocation", async () => {
    sidecar.answer(method.deleteAccount, { revoked: false });
    expect(await keyturn("accounts delete acme")).toMatchObject({ exit: 0, stdout: "acme is deleted.\n" });
    const ran = await keyturn("accounts delete acme --revoke");
    expect(ran.exit).toBe(1);
    expect(ran.stdout).toContain("may still be alive");
    expect((await keyturn("accounts delete acme --revoke --json")).json()).toEqual([{ revoked: false }]);
  });

  it("remaps, and fails when the file still does not map the answer", async () => {
    sidecar.answer(method.remapAccount, { mapped: false });
    expect((await keyturn("accounts remap acme")).exit).toBe(1);
  });

  it("refreshes a named token", async () => {
    sidecar.answer(method.refreshAccount, { account: ACME });
    await keyturn("accounts refresh acme --token-name bot");
    expect(sidecar.seen.at(-1)?.request).toMatchObject({ accountId: "acme", tokenName: "bot" });
  });
});

describe("accounts export", () => {
  it("streams JSON lines, with or without --json", async () => {
    sidecar.answer(method.exportAccounts, { account: ACME }, { account: { ...ACME, id: "b" } });
    const ran = await keyturn("accounts export");
    expect(ran.json()).toMatchObject([{ id: "acme-salesforce" }, { id: "b" }]);
  });

  it("keeps what it has when the stream breaks, and fails", async () => {
    const broken = refusal(status.UNAVAILABLE, "STORE_UNAVAILABLE", "The store is away.");
    sidecar.answer(method.exportAccounts, { account: ACME }, broken);
    const ran = await keyturn("accounts export");
    expect(ran.exit).toBe(4);
    expect(ran.json()).toHaveLength(1);
  });
});

describe("accounts explain", () => {
  const trouble = {
    account: { ...ACME, status: AccountStatus.NEEDS_REAUTH, statusReason: "invalid_grant" },
    why: "The provider refused the current refresh token.",
    nextStep: "Have the customer authorize again.",
    attempts: [
      {
        attemptId: "att-2",
        time: after(-180),
        instance: "node-1",
        generation: 12n,
        httpStatus: 400,
        outcome: "reauth",
        providerCode: "invalid_grant",
        matchedRule: "default",
      },
      { attemptId: "att-1", time: after(-7_200), instance: "node-2", generation: 11n, outcome: "unknown" },
    ],
    lock: { instance: "node-1", notAfter: after(12) },
    openAttempt: { attemptId: "att-3", instance: "node-2", time: after(-5), generation: 12n, held: true },
    journalAttemptIds: ["att-9"],
    client: {
      onHold: true,
      fault: "invalid_client",
      cooldownReason: "rate_limited",
      cooldownUntil: after(60),
      outageSuspected: true,
      failingAccounts: 5,
    },
  };

  it("starts with status, why and the next step, then shows all the evidence", async () => {
    sidecar.answer(method.explainAccount, trouble);
    const { stdout, exit } = await keyturn("accounts explain acme-salesforce");
    expect(exit).toBe(0);
    expect(stdout.split("\n").slice(0, 4)).toEqual([
      "account    acme-salesforce",
      "status     NEEDS_REAUTH (invalid_grant)",
      "why        The provider refused the current refresh token.",
      "next step  Have the customer authorize again.",
    ]);
    for (const text of [
      "held by node-1 until 2026-11-24T08:00:12Z (in 12 s)",
      "att-3 by node-2, generation 12, sent 2026-11-24T07:59:55Z (5 s ago); only node-2 may settle it",
      "1 kept answer on this sidecar's disk: att-9",
      "on hold by an operator",
      "the provider refuses it: invalid_client",
      "rate_limited until 2026-11-24T08:01:00Z (in 1 min)",
      "suspected of an outage",
      "5 accounts in a row failed; only probes are sent",
      "2026-11-24T08:58:00Z (in 58 min)",
    ]) {
      expect(stdout).toContain(text);
    }
    expect(stdout).toMatch(
      /TIME +AGO +OUTCOME +HTTP +CODE +INSTANCE +RULE +GEN +ATTEMPT\n {2}2026-11-24T07:57:00Z +3 min ago +reauth +400 +invalid_grant +node-1 +default +12 +att-2\n {2}2026-11-24T06:00:00Z +2 h ago +unknown +- +- +node-2 +- +11 +att-1\n/,
    );
  });

  it("names the commands that help, a kept answer before everything else", async () => {
    sidecar.answer(method.explainAccount, trouble);
    const { stdout } = await keyturn("accounts explain acme-salesforce");
    expect(stdout.match(/^ {2}\$ {2}.*$/gm)).toEqual([
      "  $  keyturn journal replay",
      "  $  keyturn clients release salesforce default",
      "  $  keyturn clients put salesforce default --client-id ID --client-secret-file -",
      "  $  keyturn accounts put-credential acme-salesforce --refresh-token-file -",
      "  $  keyturn clients usage salesforce default",
    ]);
  });

  it("tells what stands in every account's way, and the commands against it", async () => {
    sidecar.answer(method.explainAccount, {
      account: ACME,
      sidecar: { storeSetBack: true, kekFault: "sealed" },
    });
    const { stdout } = await keyturn("accounts explain acme-salesforce");
    expect(stdout).toMatch(/store +set back: refreshes wait/);
    expect(stdout).toMatch(/KEK +cannot be used: sealed/);
    expect(stdout.match(/^ {2}\$ {2}.*$/gm)).toEqual([
      "  $  keyturn keys status",
      "  $  keyturn journal accept-restore",
    ]);
  });

  it("offers to read a kept answer again when the file did not map it", async () => {
    const unmapped = { account: ACME, attempts: [{ outcome: "unmapped" }], journalAttemptIds: ["att-1"] };
    sidecar.answer(method.explainAccount, unmapped);
    expect((await keyturn("accounts explain x")).stdout).toContain(
      "$  keyturn accounts remap acme-salesforce",
    );
  });

  it("says of a healthy account that nothing is in the way", async () => {
    sidecar.answer(method.explainAccount, { account: ACME, why: "All is well.", client: {} });
    const { stdout } = await keyturn("accounts explain acme-salesforce");
    expect(stdout).not.toContain("Commands that help");
    for (const text of [
      /lock +free/,
      /open attempt +none/,
      /journal +no kept answer/,
      /OAuth client +nothing in the way/,
    ]) {
      expect(stdout).toMatch(text);
    }
    expect(stdout).toContain("none on record");
  });

  it("keeps its attempts within eighty columns", async () => {
    sidecar.answer(method.explainAccount, trouble);
    const { stdout } = await keyturn("accounts explain x", { columns: 80, env: { NO_COLOR: "1" } });
    const lines = stdout.split("\n");
    const at = lines.indexOf("Last attempts");
    for (const line of lines.slice(at, at + 4)) expect(line.length).toBeLessThanOrEqual(80);
  });

  it("is the whole answer on one line with --json", async () => {
    sidecar.answer(method.explainAccount, trouble);
    expect((await keyturn("accounts explain x --json")).json()).toMatchObject([
      {
        attempts: [{ httpStatus: 400 }, { httpStatus: 0 }],
        journalAttemptIds: ["att-9"],
        lock: { instance: "node-1" },
      },
    ]);
  });
});
