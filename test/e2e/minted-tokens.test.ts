import { createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AccountService, type CredentialSchema } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { run } from "../cli/run.ts";
import { reasonOf, type Scene, scene } from "./harness.ts";

const { createAccount, refreshAccount } = AccountService.method;
const KEY = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
const PEM = String(KEY.export({ type: "pkcs8", format: "pem" }));

const asked: string[] = [];
const vendor = createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray()).toString();
  asked.push(`${request.url} ${body}`);
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ session: `session-${asked.length}`, expires_in: 600 }));
});
let stage: Scene;
let port = "";
beforeAll(async () => {
  await new Promise<void>((resolve) => vendor.listen(0, "127.0.0.1", resolve));
  const address = vendor.address();
  port = typeof address === "object" && address !== null ? String(address.port) : "";
  const directory = join(import.meta.dirname, "../providers/rows");
  stage = await scene({ flags: { "providers.directories": directory } });
});
afterAll(async () => {
  await stage.stop();
  vendor.close();
});

type Init = MessageInitShape<typeof CredentialSchema>;
const create = (accountId: string, provider: string, credential: Init) =>
  stage.admin.call(createAccount, { accountId, provider, fields: { port }, credential });
const secrets = (values: Record<string, string>): Init => ({ kind: { case: "secrets", value: { values } } });
const token = (accountId: string) => stage.data.call(CredentialService.method.getToken, { accountId });

describe("tokens minted from what the customer gave, without an OAuth client", () => {
  it("are signed by the customer's key when somebody asks, and again for the next one", async () => {
    await create("signed", "self-signed", secrets({ key_id: "K1", issuer_id: "I1", private_key: PEM }));
    const first = await token("signed");
    const [head = "", payload = "", signature = ""] = first.accessToken.split(".");
    const key = { key: createPublicKey(PEM), dsaEncoding: "ieee-p1363" } as const;
    const signed = Buffer.from(`${head}.${payload}`);
    expect(verify("sha256", signed, key, Buffer.from(signature, "base64url"))).toBe(true);
    expect(JSON.parse(Buffer.from(head, "base64url").toString())).toEqual({
      alg: "ES256",
      typ: "JWT",
      kid: "K1",
    });
    expect(Number(first.expireTime?.seconds) - Date.now() / 1_000).toBeGreaterThan(1_100);
    await stage.admin.call(refreshAccount, { accountId: "signed" });
    expect((await token("signed")).accessToken).not.toBe(first.accessToken);
  });

  it("come from a login whose password is kept, a basic credential being one", async () => {
    const value = { username: "ada", password: "pa55" };
    await create("logged-in", "password-login", { kind: { case: "basic", value } });
    expect((await token("logged-in")).headers).toEqual({ "x-session": "session-1", "x-user": "ada" });
    await stage.admin.call(refreshAccount, { accountId: "logged-in" });
    expect((await token("logged-in")).accessToken).toBe("session-2");
    expect(asked).toEqual(Array.from({ length: 2 }, () => '/login {"user":"ada","pass":"pa55"}'));
    expect(stage.logs.join("\n")).not.toMatch(/pa55|session-/);
  });

  it("are imported from CSV, a key with its line breaks in one cell, and the faults are a table for people", async () => {
    const file = join(stage.stateDir, "minting.csv");
    const head =
      "account_id,provider,field.port,secret.key_id,secret.issuer_id,secret.private_key,secret.username";
    const rows = [
      `csv-1,self-signed,${port},K1,I1,"${PEM}",`,
      `csv-2,self-signed,${port},K1,I1,,`,
      `csv-3,self-signed,${port},K1,I1,"${PEM}",ada`,
    ];
    writeFileSync(file, `${[head, ...rows].join("\n")}\n`);
    const sockets = { data: join(stage.stateDir, "data.sock"), admin: join(stage.stateDir, "admin.sock") };
    const ran = await run(["accounts", "import", file], { sockets, columns: 80, env: { NO_COLOR: "1" } });
    expect(ran.exit).toBe(1);
    const after = PEM.split("\n").length;
    expect(ran.stdout.split("\n")).toEqual([
      expect.stringMatching(/^ *LINE {2}ACCOUNT {2}REASON {11}WHAT IS WRONG$/),
      expect.stringMatching(new RegExp(`^ *${after + 2}  csv-2 +INVALID_REQUEST  .*private_key.*needs it`)),
      expect.stringMatching(/^ *\d+ {2}csv-3 +INVALID_REQUEST .*secrets\.username/),
      "1 created, 0 unchanged, 2 failed.",
      "",
    ]);
    expect((await token("csv-1")).accessToken.split(".")).toHaveLength(3);
  });

  it("are refused by the name of the secret that is missing or too many", async () => {
    const faults = [
      ["self-signed", { key_id: "K1", issuer_id: "I1" }, "credential.secrets.private_key"],
      ["password-login", { username: "a", password: "b", otp: "c" }, "credential.secrets.otp"],
      [
        "self-signed",
        { key_id: "K1", issuer_id: "I1", private_key: "no key" },
        "credential.secrets.private_key",
      ],
      ["public-client", { anything: "x" }, "credential.secrets"],
    ] as const;
    for (const [provider, values, field] of faults) {
      const error = await create("faulty", provider, secrets(values)).then(
        () => new Error("created"),
        (thrown: Error) => thrown,
      );
      expect(reasonOf(error)).toBe("INVALID_REQUEST");
      expect(error.message).toContain(field);
    }
  });
});
