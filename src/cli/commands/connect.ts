import { createInterface } from "node:readline";
import type { MessageShape } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { invalid, KeyturnError } from "../../errors.ts";
import {
  CompleteAuthorizationResponseSchema,
  ConnectionService,
  ConnectWithSecretResponseSchema,
  DisconnectResponseSchema,
  type StartAuthorizationResponse,
} from "../../gen/keyturn/v1/connection_service_pb.js";
import { openBrowser } from "../browser.ts";
import type { Command, Invocation, Option } from "../command.ts";
import type { Connection } from "../connection.ts";
import { readSecretsByName } from "../credential-input.ts";
import { EXIT } from "../exit.ts";
import { failureOf } from "../failure.ts";
import { listenOnLoopback, type Redirected } from "../loopback.ts";
import { plain } from "../paint.ts";
import { both, span } from "../when.ts";

/** Which secret of a provider's file each of the usual options is. */
const SECRETS: Readonly<Record<string, string>> = {
  "api-key-file": "api_key",
  "username-file": "username",
  "password-file": "password",
  "bearer-token-file": "token",
};

const SECRET_OPTIONS: Readonly<Record<string, Option>> = {
  "api-key-file": { value: "PATH", help: "connect with an API key instead of a consent; - is stdin" },
  "username-file": { value: "PATH", help: "or with a user name" },
  "password-file": { value: "PATH", help: "and its password" },
  "bearer-token-file": { value: "PATH", help: "or with a fixed token" },
  "secret-file": {
    value: "NAME=PATH",
    help: "or with another secret that the provider's file names",
    many: true,
  },
};

const connect: Command = {
  name: "connect",
  summary: "Connect a customer's account: consent in a browser, or a secret that the provider accepts",
  listener: "data",
  arguments: [{ name: "PROVIDER" }],
  options: {
    client: { value: "NAME", help: "the OAuth client to connect with" },
    account: { value: "ACCOUNT", help: "id of the account; one that exists is authorized again" },
    tenant: { value: "TENANT", help: "your customer" },
    field: { value: "KEY=VALUE", help: "account field that the provider's file asks for", many: true },
    label: { value: "KEY=VALUE", help: "label of a new account", many: true },
    scope: { value: "SCOPE", help: "ask for this instead of the file's scopes", many: true },
    "redirect-uri": {
      value: "URL",
      help: "as registered at the provider (default: a free port of 127.0.0.1, path /callback)",
    },
    paste: { help: "the redirect does not reach this machine: paste the address that the browser ends at" },
    "no-browser": { help: "only print the address to open" },
    "allow-identity-change": { help: "the account may become somebody else's at the provider" },
    ...SECRET_OPTIONS,
    "expires-at": { value: "TIME", help: "when the key, password or token ends" },
  },
  about: `The browser may be on this machine only, unless you --paste: providers that demand https redirect it to the address
registered there, whatever that shows, and its whole address is what to paste. With --json a first line has the address to
open, a second what came of it.`,
  examples: [
    {
      line: "keyturn connect simulator --client main --account acme-crm --field port=8080",
      says: "consent in the browser; the terminal says when it is done",
    },
    {
      line: "keyturn connect my-crm --client main --account acme-crm --paste --redirect-uri https://app.example/callback",
      says: "a provider that takes https redirects only",
    },
    {
      line: "keyturn connect my-hr --account acme-hr --field subdomain=acme --api-key-file key.txt",
      says: "an API key, stored once the provider has accepted it",
    },
  ],
  run: async (invocation) =>
    Object.keys(SECRET_OPTIONS).some((name) => invocation.options.has(name))
      ? withSecret(invocation)
      : byConsent(invocation),
};

async function byConsent(invocation: Invocation): Promise<number> {
  const { options } = invocation;
  const redirectUri = options.has("redirect-uri") ? options.required("redirect-uri") : undefined;
  if (options.has("paste")) {
    if (redirectUri === undefined)
      throw invalid("--redirect-uri", "is needed with --paste: the address registered at the provider");
    const connection = await invocation.connect();
    const started = await start(invocation, connection, redirectUri);
    show(invocation, started, started.authorizationUrl);
    return complete(invocation, connection, started, await pasted(invocation, started));
  }
  const loopback = await listenOnLoopback(redirectUri);
  try {
    const connection = await invocation.connect();
    const started = await start(invocation, connection, loopback.redirectUri);
    show(invocation, started, loopback.startUrl);
    const redirected = await untilExpired(invocation, started, (signal) =>
      loopback.redirected(started.authorizationUrl, signal),
    );
    return await completeInBrowser(invocation, connection, started, redirected);
  } finally {
    loopback.close();
  }
}

function start(invocation: Invocation, connection: Connection, redirectUri: string) {
  return connection.unary(ConnectionService.method.startAuthorization, {
    ...wanted(invocation),
    scopes: [...invocation.options.texts("scope")],
    redirectUri,
  });
}

/** The account that is to be connected, for either way. */
function wanted({ args, options }: Invocation) {
  return {
    provider: args[0] ?? "",
    client: options.text("client"),
    tenant: options.text("tenant"),
    accountId: options.text("account"),
    fields: options.pairs("field"),
    labels: options.pairs("label"),
    allowIdentityChange: options.has("allow-identity-change"),
  };
}

/** `toOpen` may be seen by everybody on this machine; the authorization's own address is for its customer. */
function show(
  { io, options, output }: Invocation,
  { accountId, authorizationUrl, redirectUri, expireTime }: StartAuthorizationResponse,
  toOpen: string,
): void {
  if (output.json) output.object({ accountId, authorizationUrl });
  const opened = toOpen !== authorizationUrl && !options.has("no-browser") && openBrowser(toOpen, io.env);
  output.note(
    `${opened ? "Your browser opens. If not, open" : "Open"} this in a browser:\n\n  ${authorizationUrl}\n`,
  );
  if (!authorizationUrl.includes(encodeURIComponent(redirectUri)))
    output.note(`The provider has to redirect to ${redirectUri}: it goes by what is registered there.\n`);
  if (expireTime !== undefined)
    output.note(`Waiting until ${new Date(timestampMs(expireTime)).toISOString()}; Ctrl-C gives up.`);
}

/** The work, or AUTHORIZATION_STATE_INVALID once the authorization has expired. */
async function untilExpired<T>(
  { io, clock }: Invocation,
  { expireTime }: StartAuthorizationResponse,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const done = new AbortController();
  const leftMs = expireTime === undefined ? 600_000 : timestampMs(expireTime) - clock.now();
  const expired = new AbortController();
  void clock.sleep(Math.max(0, leftMs), done.signal).then(
    () =>
      expired.abort(
        new KeyturnError("AUTHORIZATION_STATE_INVALID", "Nobody consented in time.", {
          metadata: { cause: "expired" },
        }),
      ),
    () => undefined,
  );
  try {
    return await work(AbortSignal.any([io.signal, expired.signal]));
  } finally {
    done.abort();
  }
}

async function pasted(invocation: Invocation, started: StartAuthorizationResponse): Promise<string> {
  const { io, output } = invocation;
  output.note(`Then paste the whole address that it ends at (${started.redirectUri}?…):`);
  const lines = createInterface({ input: io.stdin });
  try {
    return await untilExpired(
      invocation,
      started,
      (signal) =>
        new Promise<string>((resolve, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
          lines.on("line", (line) => {
            if (isOf(started, line.trim())) resolve(line.trim());
            else if (line.trim() !== "")
              output.note(
                "That is not where this authorization ends; paste the whole address, with its query:",
              );
          });
          lines.once("close", () => reject(invalid("stdin", "the address that the browser ended at")));
        }),
    );
  } finally {
    lines.close();
  }
}

/** It carries the state that the authorization was started with, under whatever name the provider has for it. */
function isOf({ authorizationUrl }: StartAuthorizationResponse, pasted: string): boolean {
  const state = new URL(authorizationUrl).searchParams.get("state");
  return pasted !== "" && (state === null || pasted.includes(encodeURIComponent(state)));
}

async function completeInBrowser(
  invocation: Invocation,
  connection: Connection,
  started: StartAuthorizationResponse,
  { url, tell }: Redirected,
): Promise<number> {
  try {
    const exit = await complete(invocation, connection, started, url);
    tell("Connected. You can close this page and go back to the terminal.");
    return exit;
  } catch (error) {
    tell("Not connected. The terminal says why.");
    throw error;
  }
}

async function complete(
  invocation: Invocation,
  connection: Connection,
  started: StartAuthorizationResponse,
  callbackUrl: string,
): Promise<number> {
  const request = { callbackUrl, browserBinding: started.browserBinding };
  const answer = await untilExpired(invocation, started, (signal) =>
    whileOpen(invocation, signal, () =>
      connection.unary(ConnectionService.method.completeAuthorization, request),
    ),
  );
  if (invocation.output.json) invocation.output.message(CompleteAuthorizationResponseSchema, answer);
  else describe(answer, invocation);
  return EXIT.done;
}

/** The customer has consented already, so a redirect that is still good is completed when the provider may be asked. */
async function whileOpen<T>(
  { clock, output }: Invocation,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const { message, metadata, retryAfterMs } = failureOf(error, undefined);
      if (metadata["authorization"] !== "open" || retryAfterMs === undefined) throw error;
      output.note(
        `${plain(message)} Trying again in ${span(Math.max(1_000, retryAfterMs))}; Ctrl-C gives up.`,
      );
      await clock.sleep(retryAfterMs, signal);
    }
  }
}

function describe(
  answer: MessageShape<typeof CompleteAuthorizationResponseSchema>,
  { output, clock }: Invocation,
): void {
  output.facts([
    ["connected", answer.accountId],
    ["at the provider", answer.externalSubject],
    ["expires", both(answer.expireTime, clock.now()) ?? "never, or not known"],
    ["granted scopes", answer.grantedScopes.join(" ")],
  ]);
}

async function withSecret(invocation: Invocation): Promise<number> {
  const { options, output, readSecret } = invocation;
  const secrets: Record<string, string> = {};
  for (const [option, name] of Object.entries(SECRETS)) {
    const secret = await readSecret(option);
    if (secret !== undefined) secrets[name] = secret.reveal();
  }
  Object.assign(secrets, await readSecretsByName(invocation));
  const expiresAtMs = options.time("expires-at");
  const answer = await (await invocation.connect()).unary(ConnectionService.method.connectWithSecret, {
    ...wanted(invocation),
    secrets,
    ...(expiresAtMs === undefined ? {} : { expireTime: timestampFromMs(expiresAtMs) }),
  });
  if (output.json) output.message(ConnectWithSecretResponseSchema, answer);
  else
    output.facts([
      ["connected", answer.accountId],
      ["at the provider", answer.externalSubject],
      ["verified", answer.verified ? "the provider accepted it" : "no: the provider's file names no way to"],
    ]);
  return EXIT.done;
}

const disconnect: Command = {
  name: "disconnect",
  summary: "Revoke an account's grant at its provider and delete the account",
  listener: "data",
  arguments: [{ name: "ACCOUNT" }],
  options: {},
  about:
    "The account is deleted either way. Exit code 1 when the provider could not be told: its grant may live on there.",
  examples: [{ line: "keyturn disconnect acme-crm", says: "the customer has left" }],
  run: async ({ args, output, connect: dial }) => {
    const accountId = args[0] ?? "";
    const answer = await (await dial()).unary(ConnectionService.method.disconnect, { accountId });
    if (output.json) output.message(DisconnectResponseSchema, answer);
    else
      output.text(
        answer.revoked
          ? `${accountId}: revoked at the provider, deleted`
          : `${accountId}: deleted; the provider could not be told, so its grant may live on there`,
      );
    return answer.revoked ? EXIT.done : EXIT.failed;
  },
};

/** How accounts are connected by hand. */
export const connectCommands: readonly Command[] = [connect, disconnect];
