import { createServer } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AccountService, AccountStatus } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { EventService } from "../../src/gen/keyturn/v1/event_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { reasonOf, type Scene, scene } from "./harness.ts";

const { createAccount, explainAccount, getAccount, putCredential } = AccountService.method;

/** Each refresh token works once; what comes after it starts with the same letter. */
async function startChat() {
  const live = new Set(["bot-0", "user-0"]);
  let n = 0;
  const server = createServer(async (request, response) => {
    const form = new URLSearchParams(Buffer.concat(await request.toArray()).toString());
    const token = form.get("refresh_token") ?? "";
    const [whose = ""] = token.split("-");
    response.setHeader("content-type", "application/json");
    if (!live.delete(token)) {
      response.end(JSON.stringify({ ok: false, error: "invalid_refresh_token" }));
      return;
    }
    n += 1;
    const next = `${whose}-${n}`;
    live.add(next);
    const lifetime = whose === "bot" ? 43_200 : 3_600;
    const grant = { access_token: `access-${next}`, refresh_token: next, expires_in: lifetime };
    response.end(JSON.stringify(whose === "bot" ? { ok: true, ...grant } : { ok: true, authed_user: grant }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? String(address.port) : "",
    /** The customer takes one of the tokens away. */
    revoke: (whose: string) => {
      for (const token of live) if (token.startsWith(whose)) live.delete(token);
    },
    restore: (token: string) => live.add(token),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

let chat: Awaited<ReturnType<typeof startChat>>;
let stage: Scene;
beforeAll(async () => {
  chat = await startChat();
  stage = await scene({ flags: { "providers.directories": join(import.meta.dirname, "providers") } });
  const client = { provider: "chat", name: "main", clientId: "app", clientSecret: "chat-secret" };
  await stage.admin.call(OAuthClientService.method.putClient, client);
});
afterAll(async () => {
  await stage.stop();
  chat.close();
});

const oauth = (refreshToken: string) => ({ kind: { case: "oauth" as const, value: { refreshToken } } });
const token = (tokenName: string, minSeconds = 0) =>
  stage.data
    .call(CredentialService.method.getToken, {
      accountId: "team",
      tokenName,
      minValidity: { seconds: BigInt(minSeconds), nanos: 0 },
    })
    .then(({ accessToken }) => accessToken, reasonOf);
const account = async () => (await stage.admin.call(getAccount, { accountId: "team" })).account;
const slot = async (name: string) => (await account())?.slots.find((each) => each.name === name);

describe("an account with a bot's and a user's token", () => {
  it("has each by its name, with an end, a schedule and a generation of its own", async () => {
    await stage.admin.call(createAccount, {
      accountId: "team",
      provider: "chat",
      client: "main",
      fields: { port: chat.port },
      tokens: { bot: oauth("bot-0"), user: oauth("user-0") },
    });
    const [bot, user] = await Promise.all([token("bot"), token("user")]);
    expect(bot).toMatch(/^access-bot-[12]$/);
    expect(user).toMatch(/^access-user-[12]$/);
    expect(await token("")).toBe("INVALID_REQUEST");
    const [one, other] = [await slot("bot"), await slot("user")];
    expect(one).toMatchObject({ status: AccountStatus.ACTIVE, generation: 2n, refreshable: true });
    expect(other).toMatchObject({ status: AccountStatus.ACTIVE, generation: 2n, refreshable: true });
    const hours = (at: { readonly seconds: bigint } | undefined) =>
      Math.round((Number(at?.seconds ?? 0n) - Date.now() / 1_000) / 3_600);
    expect([hours(one?.expireTime), hours(other?.expireTime)]).toEqual([12, 1]);
    expect([hours(one?.nextRefreshTime), hours(other?.nextRefreshTime)]).toEqual([12, 1]);
  });

  it("refuses a token that the provider's accounts do not have, by its name", async () => {
    const faulty = { accountId: "team", tokenName: "admin", credential: oauth("x") };
    await expect(stage.admin.call(putCredential, faulty)).rejects.toThrow(/token_name.*one of bot, user/);
    const bare = { accountId: "other", provider: "chat", client: "main", credential: oauth("x") };
    await expect(stage.admin.call(createAccount, bare)).rejects.toThrow(/token_name.*one of bot, user/);
  });

  it("needs its customer for the user's token alone when that one is revoked, and the event says which", async () => {
    const events: { readonly type: string; readonly tokenName: string }[] = [];
    const watching = stage.data.stream(EventService.method.watchEvents, {});
    watching.on(
      "data",
      ({ event }: { readonly event?: { readonly type: string; readonly tokenName: string } }) => {
        if (event !== undefined) events.push(event);
      },
    );
    watching.on("error", () => undefined);
    chat.revoke("user");
    expect(await token("user", 7_200)).toBe("REAUTHORIZATION_REQUIRED");
    expect(await token("bot")).toMatch(/^access-bot-/);
    expect(await token("bot", 80_000)).toMatch(/^access-bot-/);
    expect(await slot("user")).toMatchObject({ status: AccountStatus.NEEDS_REAUTH, generation: 2n });
    expect(await slot("bot")).toMatchObject({ status: AccountStatus.ACTIVE, generation: 3n });
    expect(await account()).toMatchObject({ status: AccountStatus.NEEDS_REAUTH, statusReason: "refused" });
    const flags = () => events.filter(({ type }) => type === "integrated_account:authentication_error");
    await expect.poll(() => flags().length, { timeout: 5_000 }).toBe(1);
    expect(flags()[0]?.tokenName).toBe("user");
    expect(await stage.admin.call(explainAccount, { accountId: "team" })).toMatchObject({
      tokenName: "user",
      attempts: [{ outcome: "reauth", providerCode: "invalid_refresh_token" }, { outcome: "granted" }],
    });

    chat.restore("user-9");
    const renewed = { accountId: "team", tokenName: "user", credential: oauth("user-9") };
    await stage.admin.call(putCredential, renewed);
    expect(await token("user")).toMatch(/^access-user-/);
    expect(await account()).toMatchObject({ status: AccountStatus.ACTIVE, statusReason: "" });
    const back = () => events.filter(({ type }) => type === "integrated_account:reactivated");
    await expect.poll(() => back().length, { timeout: 5_000 }).toBe(1);
    expect(back()[0]?.tokenName).toBe("user");
    watching.cancel();
  });
});
