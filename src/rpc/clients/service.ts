import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { invalid } from "../../errors.ts";
import {
  type ClientCaps as CapsMessage,
  DeleteClientResponseSchema,
  GetClientResponseSchema,
  GetClientUsageResponseSchema,
  HoldClientResponseSchema,
  ListClientsResponseSchema,
  OAuthClientSchema,
  OAuthClientService,
  type PutClientRequest,
  PutClientResponseSchema,
  ReleaseClientResponseSchema,
  SecretState,
} from "../../gen/keyturn/v1/oauth_client_service_pb.js";
import type { ClientPut, Clients } from "../../tokens/clients.ts";
import { type ClientCaps, key } from "../../tokens/records.ts";
import { Secret } from "../../tokens/secret.ts";
import type { Entry, Store } from "../../tokens/store.ts";
import type { RefreshRules } from "../../tokens/vendor.ts";
import { type Call, type Handlers, unary } from "../call.ts";
import { requireSight } from "../policy.ts";
import { afterOf, durationOf, pageSize, pageToken, time, timestamp } from "../wire.ts";

const MAX_WINDOW_MS = 86_400_000;
const SCAN = 1_000;

export interface ClientServiceDeps {
  readonly clients: Clients;
  readonly store: Store;
  readonly rules: (provider: string) => RefreshRules | undefined;
}

/** What operators do to OAuth clients; secrets go in, never out. */
export function clientHandlers({ clients, store, rules }: ClientServiceDeps): Handlers {
  return {
    putClient: unary(OAuthClientService.method.putClient, async (request, call) => {
      see(call, request.provider);
      const { provider, name, clientId, labels } = request;
      if (clientId === "") throw invalid("client_id", "the id that the provider has given the client");
      const secret = request.clientSecret === "" ? undefined : new Secret(request.clientSecret);
      const proof = proofOf(request);
      const fields = fieldsOf(request.secretFields);
      const put = { provider, name, clientId, secret, ...proof, fields, caps: capsOf(request.caps), labels };
      const entry = await clients.put(put, { caller: call.caller.name, purpose: "put_client" });
      return create(PutClientResponseSchema, { client: message(entry) });
    }),
    getClient: unary(OAuthClientService.method.getClient, async ({ provider, name }, call) => {
      see(call, provider);
      return create(GetClientResponseSchema, { client: message(await clients.get(provider, name)) });
    }),
    listClients: unary(OAuthClientService.method.listClients, async (request, call) => {
      const size = pageSize(request.pageSize);
      const page = await store.scan("client", afterOf(request.pageToken), size);
      const wanted = page.entries.filter(
        ({ value }) =>
          (request.provider === "" || request.provider === value.provider) &&
          (!call.caller.isRestricted || mayManage(call, value.provider)),
      );
      return create(ListClientsResponseSchema, {
        clients: wanted.map(message),
        nextPageToken: pageToken(page.next),
      });
    }),
    deleteClient: unary(OAuthClientService.method.deleteClient, async ({ provider, name }, call) => {
      see(call, provider);
      await clients.get(provider, name);
      const user = await firstUser(store, provider, name);
      if (user !== undefined) throw invalid("name", `a client that no account uses; ${user} does`);
      await clients.delete(provider, name);
      return create(DeleteClientResponseSchema);
    }),
    holdClient: unary(OAuthClientService.method.holdClient, async ({ provider, name, note }, call) => {
      see(call, provider);
      return create(HoldClientResponseSchema, {
        client: message(await clients.hold(provider, name, call.caller.name, note)),
      });
    }),
    releaseClient: unary(OAuthClientService.method.releaseClient, async ({ provider, name }, call) => {
      see(call, provider);
      return create(ReleaseClientResponseSchema, { client: message(await clients.release(provider, name)) });
    }),
    getClientUsage: unary(OAuthClientService.method.getClientUsage, async ({ provider, name }, call) => {
      see(call, provider);
      const { value } = await clients.get(provider, name);
      const parts = [provider, name];
      const view = await store.read([
        key("cooldown", provider, name),
        { under: "permit", parts },
        { under: "budget", parts },
      ]);
      const cooldown = view.get(key("cooldown", provider, name))?.value;
      const file = rules(provider);
      return create(GetClientUsageResponseSchema, {
        caps: capsMessage({
          maxConcurrent: value.caps.maxConcurrent ?? file?.maxConcurrent,
          budget: value.caps.budget ?? file?.budget,
        }),
        permitsTaken: view.all("permit").length,
        requestsTaken: view.all("budget").reduce((sum, entry) => sum + entry.value.requests, 0),
        cooldownReason: cooldown?.reason ?? "",
        ...time("cooldownUntil", cooldown?.untilMs),
      });
    }),
  };
}

/** What a client signs and connects with, as far as it is given. */
function proofOf(request: PutClientRequest): Pick<ClientPut, "privateKey" | "certificate"> {
  const { privateKey, privateKeyId, certificate, certificateKey } = request;
  if (privateKey === "" && privateKeyId !== "") throw invalid("private_key", "must come with private_key_id");
  if (certificate === "" && certificateKey !== "")
    throw invalid("certificate", "must come with certificate_key");
  const key = certificateKey === "" ? privateKey : certificateKey;
  if (certificate !== "" && key === "") throw invalid("certificate_key", "the certificate's private key");
  return {
    ...(privateKey === ""
      ? {}
      : { privateKey: { key: new Secret(privateKey), keyId: privateKeyId || undefined } }),
    ...(certificate === "" ? {} : { certificate: { chain: certificate, key: new Secret(key) } }),
  };
}

function fieldsOf(given: PutClientRequest["secretFields"]): Readonly<Record<string, Secret>> {
  const fields = Object.entries(given).map(([name, value]) => {
    if (value === "") throw invalid(`secret_fields.${name}`, "must not be empty");
    return [name, new Secret(value)] as const;
  });
  return Object.fromEntries(fields);
}

/** Clients are shared by tenants: whoever manages one has to be allowed every tenant's accounts of its provider. */
function see(call: Call, provider: string): void {
  requireSight(call.caller, { tenant: "", provider, account: "" });
}

function mayManage(call: Call, provider: string): boolean {
  return call.caller.maySee({ tenant: "", provider, account: "" });
}

async function firstUser(store: Store, provider: string, name: string): Promise<string | undefined> {
  for (let after: string | undefined = ""; after !== undefined; ) {
    const page: Awaited<ReturnType<typeof store.scan<"account">>> = await store.scan("account", after, SCAN);
    const user = page.entries.find(({ value }) => value.provider === provider && value.client === name);
    if (user !== undefined) return user.value.id;
    after = page.next;
  }
  return undefined;
}

function capsOf(message: CapsMessage | undefined): ClientCaps {
  const maxConcurrent = message?.maxConcurrent;
  const budget = message?.budget;
  if (budget === undefined) return { maxConcurrent, budget: undefined };
  const perMs = durationOf("caps.budget.per", budget.per, MAX_WINDOW_MS);
  if (budget.requests < 1) throw invalid("caps.budget.requests", "1 or more");
  if (perMs < 1_000) throw invalid("caps.budget.per", "between 1 s and a day");
  return { maxConcurrent, budget: { requests: budget.requests, perMs } };
}

function capsMessage({ maxConcurrent, budget }: ClientCaps) {
  return {
    ...(maxConcurrent === undefined ? {} : { maxConcurrent }),
    ...(budget === undefined
      ? {}
      : { budget: { requests: budget.requests, per: durationFromMs(budget.perMs) } }),
  };
}

const SECRET_STATE = {
  next: SecretState.NEXT,
  active: SecretState.ACTIVE,
  retiring: SecretState.RETIRING,
} as const;

function message(entry: Entry<"client">) {
  const client = entry.value;
  return create(OAuthClientSchema, {
    provider: client.provider,
    name: client.name,
    clientId: client.clientId,
    secrets: client.secrets.map(({ version, state, hint, createdAtMs }) => ({
      version,
      state: SECRET_STATE[state],
      hint,
      createTime: timestamp(createdAtMs),
    })),
    ...(client.privateKey === undefined ? {} : { privateKey: client.privateKey }),
    ...(client.certificate === undefined
      ? {}
      : {
          certificate: {
            subject: client.certificate.subject,
            fingerprint: client.certificate.fingerprint,
            expireTime: timestamp(client.certificate.notAfterMs),
          },
        }),
    secretFields: [...(client.secretFields ?? [])],
    caps: capsMessage(client.caps),
    labels: client.labels,
    ...(client.onHold === undefined
      ? {}
      : { hold: { time: timestamp(client.onHold.sinceMs), by: client.onHold.by, note: client.onHold.note } }),
    ...(client.fault === undefined
      ? {}
      : { fault: { code: client.fault.code, time: timestamp(client.fault.sinceMs) } }),
    createTime: timestamp(client.createdAtMs),
    updateTime: timestamp(client.updatedAtMs),
    revision: String(entry.revision),
  });
}
