import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { invalid } from "../../errors.ts";
import {
  DeleteClientResponseSchema,
  GetClientUsageResponseSchema,
  OAuthClientSchema,
  OAuthClientService,
} from "../../gen/keyturn/v1/oauth_client_service_pb.js";
import type { Command, Invocation } from "../command.ts";
import { readSecretsByName } from "../credential-input.ts";
import { EXIT } from "../exit.ts";
import { type Options, wholeOf } from "../options.ts";
import { pagesOf } from "../pages.ts";
import { both, durationMsOf } from "../when.ts";
import { capsText, clientColumns, type OAuthClient, showClient } from "./client-text.ts";

const { method } = OAuthClientService;
const CLIENT = [{ name: "PROVIDER" }, { name: "NAME" }];
const named = ({ args: [provider = "", name = ""] }: Invocation) => ({ provider, name });

const put: Command = {
  name: "clients put",
  summary: "Create or replace an OAuth client, or give it a new secret",
  listener: "admin",
  arguments: CLIENT,
  options: {
    "client-id": { value: "ID", help: "as the provider names our app; needed" },
    "client-secret-file": { value: "PATH", help: "its secret; - is stdin; without it the present one stays" },
    "private-key-file": {
      value: "PATH",
      help: "what it signs assertions with, PEM or JWK; - is stdin; without it the present one stays",
    },
    "key-id": { value: "KID", help: "as the provider names the private key; else the JWK's own" },
    "certificate-file": { value: "PATH", help: "PEM certificates for TLS, its own first; - is stdin" },
    "certificate-key-file": { value: "PATH", help: "the certificate's key, PEM; else the private key" },
    "secret-file": {
      value: "NAME=PATH",
      help: "a further secret that calls of the API carry, by the name in the provider's file; - is stdin",
      many: true,
    },
    "max-concurrent": { value: "N", help: "exchanges at one time, over all sidecars" },
    budget: { value: "N/DURATION", help: "token requests in a window: 100/60s" },
    label: { value: "KEY=VALUE", help: "label", many: true },
  },
  about:
    "Caps and labels are replaced whole; without them the provider's file decides. A new secret, key or certificate\nclears the client's fault, and with it the MISCONFIGURED of all its accounts. Keys and certificates are checked first.",
  examples: [
    {
      line: "pass show simulator | keyturn clients put simulator default --client-id 3MVG9 --client-secret-file -",
      says: "secret from stdin",
    },
    {
      line: "keyturn clients put simulator default --client-id abc --client-secret-file secret.txt --budget 100/10s",
      says: "with a budget",
    },
    {
      line: "keyturn clients put simulator default --client-id abc --private-key-file key.pem --key-id 2026-01",
      says: "proves itself by a signature (private_key_jwt)",
    },
    {
      line: "keyturn clients put my-ads default --client-id abc --client-secret-file secret.txt --secret-file developer_token=token.txt",
      says: "with a secret of its own for calls of the API",
    },
  ],
  run: async (invocation) => {
    const { options, connect, readSecret } = invocation;
    const clientId = options.required("client-id");
    const caps = capsOf(options);
    const labels = options.pairs("label");
    const secret = await readSecret("client-secret-file");
    const privateKey = await readSecret("private-key-file");
    const certificate = await readSecret("certificate-file");
    const certificateKey = await readSecret("certificate-key-file");
    const { client } = await (await connect()).unary(method.putClient, {
      ...named(invocation),
      clientId,
      clientSecret: secret?.reveal() ?? "",
      privateKey: privateKey?.reveal() ?? "",
      privateKeyId: options.text("key-id"),
      certificate: certificate?.reveal() ?? "",
      certificateKey: certificateKey?.reveal() ?? "",
      secretFields: await readSecretsByName(invocation),
      ...(caps === undefined ? {} : { caps }),
      labels,
    });
    return shown(client, invocation);
  },
};

function capsOf(options: Options) {
  const budget = options.has("budget") ? budgetOf(options.text("budget")) : undefined;
  if (budget === undefined && !options.has("max-concurrent")) return undefined;
  return {
    ...(options.has("max-concurrent")
      ? { maxConcurrent: options.whole("max-concurrent", 0, { min: 1 }) }
      : {}),
    ...(budget === undefined ? {} : { budget }),
  };
}

function budgetOf(text: string) {
  const [requests = "", per = ""] = text.split("/", 2);
  const perMs = durationMsOf(per);
  if (perMs === undefined || perMs === 0) throw invalid("--budget", "requests and a window: 100/60s");
  return { requests: wholeOf("--budget", requests, { min: 1 }), per: durationFromMs(perMs) };
}

const list: Command = {
  name: "clients list",
  summary: "List OAuth clients, without their secrets",
  listener: "admin",
  arguments: [],
  options: {
    provider: { value: "PROVIDER", help: "only this provider's" },
    limit: { value: "N", help: "at most so many (default 1000; 0: all of them)" },
  },
  examples: [{ line: "keyturn clients list", says: "which are on hold or refused" }],
  run: async ({ options, output, connect }) => {
    const provider = options.text("provider");
    const limit = options.whole("limit", 1_000) || Number.POSITIVE_INFINITY;
    const connection = await connect();
    const pages = pagesOf(limit, async (pageSize, pageToken) => {
      const { clients, nextPageToken } = await connection.unary(method.listClients, {
        provider,
        pageSize,
        pageToken,
      });
      return { rows: clients, nextPageToken };
    });
    const found: OAuthClient[] = [];
    for await (const client of pages.rows) found.push(client);
    if (output.json) for (const client of found) output.message(OAuthClientSchema, client);
    else if (found.length === 0) output.note("No OAuth clients. Create one with: keyturn clients put --help");
    else output.table(found, clientColumns);
    if (pages.hasMore()) output.note("There are more: --limit 0 lists all.");
    return EXIT.done;
  },
};

const get: Command = {
  name: "clients get",
  summary: "Show one OAuth client, without its secrets",
  listener: "admin",
  arguments: CLIENT,
  options: {},
  examples: [
    { line: "keyturn clients get simulator default", says: "its state, caps and secrets' versions" },
  ],
  run: async (invocation) => {
    const { client } = await (await invocation.connect()).unary(method.getClient, named(invocation));
    return shown(client, invocation);
  },
};

const usage: Command = {
  name: "clients usage",
  summary: "Show how much of a client's caps is in use now",
  listener: "admin",
  arguments: CLIENT,
  options: {},
  examples: [{ line: "keyturn clients usage simulator default", says: "why refreshes queue" }],
  run: async (invocation) => {
    const { connect, output, clock } = invocation;
    const answer = await (await connect()).unary(method.getClientUsage, named(invocation));
    const { caps, cooldownReason } = answer;
    const budget = caps?.budget === undefined ? "" : ` of ${caps.budget.requests}`;
    const permits = caps?.maxConcurrent === undefined ? "" : ` of ${caps.maxConcurrent}`;
    const until = both(answer.cooldownUntil, clock.now());
    if (output.json) output.message(GetClientUsageResponseSchema, answer);
    else {
      output.facts([
        ["client", Object.values(named(invocation)).join(" ")],
        ["caps", capsText(caps) || "none"],
        ["exchanges on their way", `${answer.permitsTaken}${permits}`],
        ["requests in the window", `${answer.requestsTaken}${budget}`],
        [
          "cool-down",
          cooldownReason === "" ? "none" : `${cooldownReason}${until === undefined ? "" : ` until ${until}`}`,
        ],
      ]);
    }
    return EXIT.done;
  },
};

const hold: Command = {
  name: "clients hold",
  summary: "Stop every refresh of a client at once; valid tokens are still handed out",
  listener: "admin",
  arguments: CLIENT,
  options: { note: { value: "TEXT", help: "shown to whoever asks why nothing is refreshed" } },
  examples: [
    {
      line: 'keyturn clients hold simulator default --note "vendor incident 4711"',
      says: "survives restarts",
    },
  ],
  run: async (invocation) => {
    const request = { ...named(invocation), note: invocation.options.text("note") };
    const { client } = await (await invocation.connect()).unary(method.holdClient, request);
    return shown(client, invocation);
  },
};

const release: Command = {
  name: "clients release",
  summary: "Undo `clients hold`",
  listener: "admin",
  arguments: CLIENT,
  options: {},
  examples: [
    { line: "keyturn clients release simulator default", says: "refreshes go on, paced by the caps" },
  ],
  run: async (invocation) => {
    const { client } = await (await invocation.connect()).unary(method.releaseClient, named(invocation));
    return shown(client, invocation);
  },
};

const remove: Command = {
  name: "clients delete",
  summary: "Remove an OAuth client that no account uses",
  listener: "admin",
  arguments: CLIENT,
  options: {},
  examples: [{ line: "keyturn clients delete simulator old-app", says: "refused while an account uses it" }],
  run: async (invocation) => {
    const { connect, output, args } = invocation;
    const answer = await (await connect()).unary(method.deleteClient, named(invocation));
    if (output.json) output.message(DeleteClientResponseSchema, answer);
    else output.text(`${args.join(" ")} is deleted.`);
    return EXIT.done;
  },
};

function shown(client: OAuthClient | undefined, invocation: Invocation): number {
  if (client === undefined) return EXIT.failed;
  if (invocation.output.json) invocation.output.message(OAuthClientSchema, client);
  else showClient(client, invocation);
  return EXIT.done;
}

/** Our apps' registrations at providers. */
export const clientCommands: readonly Command[] = [put, list, get, usage, hold, release, remove];
