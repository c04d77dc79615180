import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, it, onTestFinished } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { ConnectionService } from "../../src/gen/keyturn/v1/connection_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { openJournal } from "../../src/journal/journal.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { reasonOf, scene } from "./harness.ts";
import { startOAuthServer } from "./oauth-server.ts";
import { type Serving, serve } from "./serving-process.ts";

const { getToken } = CredentialService.method;
const ACCOUNTS = 12;
const REFRESHES = 200;
const LIFETIME_MS = 5_000;

it("loses no kept answer and one grant a kill at most, in 200 refreshes under three kill -9", async () => {
  const stateDir = tempFolder();
  const providers = join(import.meta.dirname, "providers");
  const vendor = await startOAuthServer(`${LIFETIME_MS / 1_000}s`);
  onTestFinished(() => vendor.close());
  const start = () => serve({ stateDir, config: `providers: { directories: [${providers}] }` });
  let sidecar = await start();
  const ids = Array.from({ length: ACCOUNTS }, (_, n) => `customer-${n}`);
  await connect(sidecar, vendor, ids);

  let isOver = false;
  /** Now one caller, now ten, of a token or of a refresh, some of whom give up. */
  const caller = async () => {
    while (!isOver) {
      const accountId = ids[Math.floor(Math.random() * ACCOUNTS)] ?? "";
      const { data, admin } = sidecar;
      const deadlineMs = Math.random() < 0.1 ? 15 : 5_000;
      const asks = Array.from({ length: 1 + Math.floor(Math.random() * 10) }, (_, i) =>
        i % 3 === 0
          ? admin.call(AccountService.method.refreshAccount, { accountId }, { deadlineMs })
          : data.call(getToken, { accountId }, { deadlineMs }),
      );
      const [first] = await Promise.allSettled(asks);
      if (first?.status === "rejected") await delay(20);
    }
  };
  const callers = Array.from({ length: 6 }, caller);
  const kept = new Set<string>();
  for (let kill = 1; kill <= 3; kill += 1) {
    while (vendor.answered() < (kill * REFRESHES) / 4) await delay(1);
    await sidecar.end("SIGKILL");
    const journal = await openJournal({ directory: join(stateDir, "journal") });
    for (const { accountId } of await journal.entries()) kept.add(accountId);
    await journal.close();
    sidecar = await start();
  }
  while (vendor.answered() < REFRESHES) await delay(5);
  isOver = true;
  await Promise.all(callers);

  // Whatever is in doubt is tried once more when its access token has ended.
  await delay(LIFETIME_MS + 500);
  const answers = await Promise.all(
    ids.map((accountId) => sidecar.data.call(getToken, { accountId }).then(() => "token", reasonOf)),
  );
  expect(vendor.ended.size).toBeLessThanOrEqual(3);
  for (const id of kept) expect([...vendor.ended]).not.toContain(id);
  const lost = ids.filter((_, n) => answers[n] !== "token");
  expect(answers.filter((answer) => answer !== "token")).toEqual(lost.map(() => "REAUTHORIZATION_REQUIRED"));
  expect(new Set(lost)).toEqual(vendor.ended);
  expect(await sidecar.end("SIGTERM")).toBe(0);
}, 60_000);

it("connects a customer by code and PKCE, refreshes, and revokes", async () => {
  const vendor = await startOAuthServer("1h");
  onTestFinished(() => vendor.close());
  const here = await scene({ flags: { "providers.directories": join(import.meta.dirname, "providers") } });
  onTestFinished(() => here.stop());
  const client = { provider: "npm", name: "main", clientId: "app", clientSecret: "app-secret" };
  await here.admin.call(OAuthClientService.method.putClient, client);
  const { authorizationUrl, browserBinding } = await here.data.call(
    ConnectionService.method.startAuthorization,
    {
      provider: "npm",
      client: "main",
      accountId: "acme",
      fields: { port: String(vendor.port) },
      redirectUri: "http://127.0.0.1/callback",
    },
  );
  const redirected = await fetch(authorizationUrl, { redirect: "manual" });
  const callbackUrl = redirected.headers.get("location") ?? "";
  const completion = { callbackUrl, browserBinding };
  await here.data.call(ConnectionService.method.completeAuthorization, completion);
  const first = await here.data.call(getToken, { accountId: "acme" });
  await here.admin.call(AccountService.method.refreshAccount, { accountId: "acme" });
  const second = await here.data.call(getToken, { accountId: "acme" });
  expect(second.accessToken).not.toBe(first.accessToken);
  expect(await here.data.call(ConnectionService.method.disconnect, { accountId: "acme" })).toMatchObject({
    revoked: true,
  });
});

async function connect(
  { admin }: Serving,
  vendor: Awaited<ReturnType<typeof startOAuthServer>>,
  ids: readonly string[],
): Promise<void> {
  await admin.call(OAuthClientService.method.putClient, {
    provider: "npm",
    name: "main",
    clientId: "app",
    clientSecret: "app-secret",
  });
  for (const accountId of ids) {
    const { accessToken, refreshToken, expiresAtMs } = await vendor.grant(accountId);
    await admin.call(AccountService.method.createAccount, {
      accountId,
      tenant: "acme",
      provider: "npm",
      client: "main",
      fields: { port: String(vendor.port) },
      credential: {
        kind: {
          case: "oauth",
          value: { accessToken, refreshToken, expireTime: timestampFromMs(expiresAtMs) },
        },
      },
    });
  }
}
