import { spawnSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failureOf } from "../../src/cli/failure.ts";
import { KeyturnError } from "../../src/errors.ts";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { EventService } from "../../src/gen/keyturn/v1/event_service_pb.js";
import { type CannedSidecar, cannedSidecar, refusal } from "./canned-sidecar.ts";
import { run } from "./run.ts";

let sidecar: CannedSidecar;
beforeAll(async () => {
  sidecar = await cannedSidecar();
});
afterAll(() => sidecar.stop());

const refused = (code: number, reason: string) => {
  sidecar.answer(CredentialService.method.getToken, refusal(code, reason, `Because of ${reason}.`));
  return run(["token", "acme"], { sockets: sidecar.sockets });
};

describe("the exit code", () => {
  it("is 0 when it is done", async () => {
    sidecar.answer(CredentialService.method.getToken, { accessToken: "t", tokenType: "Bearer" });
    expect((await run(["token", "acme"], { sockets: sidecar.sockets })).exit).toBe(0);
  });

  it.each([
    [1, status.FAILED_PRECONDITION, "ACCOUNT_DISABLED"],
    [1, status.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"],
    [1, status.INTERNAL, "SEAL_INVALID"],
    [2, status.INVALID_ARGUMENT, "INVALID_REQUEST"],
    [3, status.NOT_FOUND, "ACCOUNT_NOT_FOUND"],
    [3, status.NOT_FOUND, "CLIENT_NOT_FOUND"],
    [4, status.UNAVAILABLE, "STORE_UNAVAILABLE"],
    [4, status.UNAVAILABLE, "PROVIDER_UNAVAILABLE"],
    [4, status.RESOURCE_EXHAUSTED, "PROVIDER_RATE_LIMITED"],
    [4, status.DEADLINE_EXCEEDED, "WAIT_TIMED_OUT"],
    [5, status.FAILED_PRECONDITION, "REAUTHORIZATION_REQUIRED"],
    // Reasons of a later version go by their code.
    [3, status.NOT_FOUND, "TENANT_NOT_FOUND"],
    [4, status.UNAVAILABLE, "MOON_UNAVAILABLE"],
    [1, status.ABORTED, "SOMETHING_NEW"],
  ])("is %i for gRPC code %i with %s", async (exit, code, reason) => {
    const ran = await refused(code, reason);
    expect(ran.exit).toBe(exit);
    expect(ran.stdout).toBe("");
    expect(ran.stderr).toContain(`error: Because of ${reason}. [${reason}]`);
  });

  it("is 2 for a command that cannot be meant", async () => {
    expect((await run(["accounts", "get"])).exit).toBe(2);
  });

  it("is 4 when the sidecar does not answer before the timeout", async () => {
    sidecar.answer(CredentialService.method.getToken, "hang");
    const ran = await run(["token", "acme", "--timeout", "100ms"], { sockets: sidecar.sockets });
    expect(ran.exit).toBe(4);
    expect(ran.stderr).toContain("did not answer in time");
    expect(ran.stderr).toContain("--timeout");
  });

  it("is 130 when a call is interrupted, and nothing is reported as an error", async () => {
    sidecar.answer(CredentialService.method.getToken, "hang");
    const interrupt = new AbortController();
    const ran = run(["token", "acme"], { sockets: sidecar.sockets, signal: interrupt.signal });
    setTimeout(() => interrupt.abort(), 50);
    expect(await ran).toMatchObject({ exit: 130, stdout: "", stderr: "" });
  });

  it("is 130 when a stream is interrupted, which then says where to go on", async () => {
    sidecar.answer(EventService.method.watchEvents, { cursor: "c-7" }, "hang");
    const interrupt = new AbortController();
    const ran = run(["events", "tail"], { sockets: sidecar.sockets, signal: interrupt.signal });
    setTimeout(() => interrupt.abort(), 1_000);
    const { exit, stderr } = await ran;
    expect(exit).toBe(130);
    expect(stderr).toBe("To go on from here: keyturn events tail --after c-7\n");
  });

  it.each([
    ["INVALID_REQUEST", 2],
    ["STORE_UNAVAILABLE", 4],
    ["INTERNAL_ERROR", 1],
  ] as const)("follows a room's own %s to %i", async (reason, exit) => {
    const serve = () => Promise.reject(new KeyturnError(reason, "It is so."));
    expect((await run(["serve"], { rooms: { serve } })).exit).toBe(exit);
  });

  it("is whatever a room that runs resolves to", async () => {
    expect((await run(["demo"], { rooms: { demo: () => Promise.resolve(1) } })).exit).toBe(1);
  });

  it("is 2 for a file that is not there", async () => {
    const lintProviders = async (paths: readonly string[]) =>
      paths.flatMap((path) => readdirSync(path)) as never;
    const ran = await run(["providers", "lint", "/nonexistent"], { rooms: { lintProviders } });
    expect(ran).toMatchObject({
      exit: 2,
      stderr: "error: /nonexistent: there is no such file or directory.\n",
    });
  });

  it("is 1 for a bug, whose own words are kept back because they may hold a secret", async () => {
    const serve = () => Promise.reject(new TypeError("bad value s3cr3t-value"));
    const ran = await run(["serve"], { rooms: { serve } });
    expect(ran.exit).toBe(1);
    expect(ran.stderr).toContain("TypeError");
    expect(ran.stderr).not.toContain("s3cr3t-value");
  });
});

describe("an error", () => {
  it("shows reason, message, fields, metadata, when to try again and what to do next", async () => {
    sidecar.answer(
      AccountService.method.refreshAccount,
      refusal(status.INVALID_ARGUMENT, "INVALID_REQUEST", "Two things are wrong.", {
        violations: [{ field: "account_id", description: "1 to 128 characters" }],
        metadata: { account_id: "acme" },
        retryAfterMs: 12_000,
      }),
    );
    const { stderr } = await run(["accounts", "refresh", "acme"], { sockets: sidecar.sockets });
    expect(stderr).toBe(
      [
        "error: Two things are wrong. [INVALID_REQUEST]",
        "  account_id    1 to 128 characters",
        "  account_id    acme",
        "  try again in  12 s",
        "next: Mend what is named above and run the command again; --help shows examples.",
        "",
      ].join("\n"),
    );
  });

  it("is one JSON object on stderr with --json", async () => {
    sidecar.answer(
      AccountService.method.getAccount,
      refusal(status.NOT_FOUND, "ACCOUNT_NOT_FOUND", "There is no account acme."),
    );
    const ran = await run(["accounts", "get", "acme", "--json"], { sockets: sidecar.sockets });
    expect(ran.stdout).toBe("");
    expect(JSON.parse(ran.stderr)).toEqual({
      error: {
        reason: "ACCOUNT_NOT_FOUND",
        message: "There is no account acme.",
        violations: [],
        metadata: {},
        nextStep: "See which there are: keyturn accounts list",
        exitCode: 3,
      },
    });
  });

  it("fills its next step in with words that a shell takes as they are", async () => {
    sidecar.answer(
      AccountService.method.getAccount,
      refusal(status.FAILED_PRECONDITION, "ACCOUNT_DISABLED", "It is disabled.", {
        metadata: { account_id: "x; rm -rf ~" },
      }),
    );
    const { stderr } = await run(["accounts", "get", "x"], { sockets: sidecar.sockets });
    expect(stderr).toContain("keyturn accounts enable 'x; rm -rf ~'");
  });

  it("cannot move the reader's cursor, whoever wrote its text", async () => {
    sidecar.answer(
      AccountService.method.getAccount,
      refusal(status.NOT_FOUND, "ACCOUNT_NOT_FOUND", "gone\u001b[2J\rfake", { metadata: { a: "\u0007b" } }),
    );
    const { stderr } = await run(["accounts", "get", "x"], { sockets: sidecar.sockets });
    expect(stderr).toContain("gone\ufffd[2J\ufffdfake");
    expect(stderr).toContain("\ufffdb");
  });

  it("without google.rpc details still says what gRPC said", async () => {
    const error = Object.assign(new Error("no"), { code: status.UNKNOWN, details: "Stream removed" });
    sidecar.answer(AccountService.method.getAccount, error as never);
    const ran = await run(["accounts", "get", "x"], { sockets: sidecar.sockets });
    expect(ran).toMatchObject({ exit: 1, stderr: "error: Stream removed\n" });
  });

  it("says which listener was meant when the other one was asked", async () => {
    const ran = await run(["accounts", "list", "--socket", sidecar.sockets.data]);
    expect(ran.exit).toBe(1);
    expect(ran.stderr).toContain(`Is ${sidecar.sockets.data} really the admin listener?`);
  });
});

describe("a sidecar that cannot be reached", () => {
  it("is told as not running when there is no socket, with how to start one", async () => {
    const ran = await run(["accounts", "list"]);
    expect(ran.exit).toBe(4);
    expect(ran.stderr).toContain("there is no socket at /nonexistent/admin.sock");
    expect(ran.stderr).toContain("keyturn serve --config keyturn.yaml");
    expect(ran.stderr).toContain("keyturn demo");
    expect(ran.stderr).toContain("--socket PATH");
  });

  it("is told as not listening when only its socket file is left", async () => {
    const path = join(sidecar.directory, "stale.sock");
    // What a killed process leaves behind.
    const listen = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
    spawnSync(process.execPath, ["-e", listen]);
    const ran = await run(["token", "acme", "--socket", path]);
    expect(ran.exit).toBe(4);
    expect(ran.stderr).toContain(`No sidecar is listening at ${path}.`);
  });

  it("is told as forbidden when the socket may not be opened", () => {
    // Root, which runs this in containers, may open everything: so grpc-js's words rather than a socket.
    const details = "No connection established. Last error: connect EACCES /run/keyturn/admin/keyturn.sock";
    const error = Object.assign(new Error(details), { code: status.UNAVAILABLE, details });
    const target = { address: "", shown: "/run/x.sock", listener: "admin", tls: undefined } as const;
    expect(failureOf(error, target)).toMatchObject({
      exit: 4,
      message: "This user may not open /run/x.sock.",
    });
  });

  it("is asked over TCP too, and says so when nobody is there", async () => {
    const ran = await run(["token", "acme", "--address", "127.0.0.1:1"]);
    expect(ran.exit).toBe(4);
    expect(ran.stderr).toContain("No sidecar is listening at 127.0.0.1:1.");
  });
});

describe("where to ask", () => {
  it.each([
    [["--address", "db.example.com:7471"], "secrets are not sent over a network in the clear"],
    [["--address", "nonsense"], "host:port"],
    [["--address", "127.0.0.1:70000"], "host:port"],
    [["--address", "127.0.0.1:1", "--socket", "/x"], "not both"],
    [["--socket", `/${"x".repeat(107)}`], "at most 107 bytes; this one has 108"],
  ])("refuses %j", async (options, text) => {
    const ran = await run(["token", "acme", ...options]);
    expect(ran.exit).toBe(2);
    expect(ran.stderr).toContain(text);
  });

  it.each([
    [["--config", "keyturn.yaml"], {}],
    [[], { KEYTURN_CONFIG: "keyturn.yaml" }],
  ])("reads it in the sidecar's configuration: %j %j", async (options, env) => {
    sidecar.answer(CredentialService.method.getToken, {});
    const listeners = (config: string | undefined) => {
      expect(config).toBe("keyturn.yaml");
      return { data: { socket: sidecar.sockets.data }, admin: { address: "127.0.0.1:1" } };
    };
    expect((await run(["token", "a", ...options], { env, rooms: { listeners } })).exit).toBe(0);
    const away = await run(["accounts", "list", ...options], { env, rooms: { listeners } });
    expect(away.stderr).toContain("No sidecar is listening at 127.0.0.1:1.");
  });

  it("sends the caller token from its file, without the line break", async () => {
    const path = join(sidecar.directory, "caller");
    writeFileSync(path, "caller-1\n");
    sidecar.answer(CredentialService.method.getToken, {});
    await run(["token", "acme", "--caller-token-file", path], { sockets: sidecar.sockets });
    expect(sidecar.seen.at(-1)).toMatchObject({
      rpc: "CredentialService/GetToken",
      authorization: "Bearer caller-1",
    });
  });

  it("asks the data listener for tokens and events, the admin listener for the rest", async () => {
    // Each socket serves only its own services, so an answer proves which was asked.
    sidecar.answer(CredentialService.method.getToken, {});
    sidecar.answer(AccountService.method.listAccounts, {});
    expect((await run(["token", "a"], { sockets: sidecar.sockets })).exit).toBe(0);
    expect((await run(["accounts", "list"], { sockets: sidecar.sockets })).exit).toBe(0);
  });
});
