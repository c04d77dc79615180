import { KeyturnError } from "../errors.ts";
import type { Account } from "../tokens/account.ts";
import { fieldLookup, isWithin } from "./fields.ts";
import type { ClientAuth, Provider, RequestPlan } from "./provider.ts";
import type { Outbound } from "./send.ts";
import { type Lookup, render, renderHeader, renderUrl, type Template } from "./template.ts";

const MAX_BODY_BYTES = 1_048_576;

/** What identifies our app to the provider. */
export interface ClientIdentity {
  readonly id: string;
  /** Undefined for a public client. */
  readonly secret: string | undefined;
}

export interface Building {
  readonly provider: Provider;
  readonly account: Pick<Account, "fields">;
  readonly plan: RequestPlan;
  readonly client: ClientIdentity | undefined;
  readonly clientAuth: ClientAuth;
  /** Values beside the account's fields that the plan's templates may name. */
  readonly variables?: Readonly<Record<string, string>>;
  /** Before those of the plan, which win. */
  readonly params?: readonly (readonly [string, string])[];
  readonly headers?: readonly (readonly [string, string])[];
  readonly timeoutMs: number;
}

/** DESTINATION_NOT_ALLOWED or INVALID_REQUEST when file and fields do not make a permitted request; nothing is sent then. */
export function buildRequest(building: Building): Outbound {
  const { provider, plan, client, clientAuth } = building;
  const lookup = fieldLookup(provider.fields, building.account.fields, building.variables);
  const url = renderUrl(plan.url, lookup);
  const allowedHosts = allowedHostsFor(provider, building.account.fields, url);
  const params = new Map(building.params);
  for (const [name, template] of plan.params) params.set(name, render(template, lookup));
  const headers = new Map<string, string>([["accept", "application/json"]]);
  for (const [name, value] of building.headers ?? []) headers.set(name.toLowerCase(), value);
  for (const [name, template] of plan.headers)
    headers.set(name.toLowerCase(), renderHeader(name, template, lookup));
  if (client !== undefined && clientAuth === "header") {
    headers.set("authorization", basicAuth(client, provider.token?.formEncodeCredentials !== false));
  } else if (client !== undefined && clientAuth !== "none") {
    params.set("client_id", client.id);
    if (clientAuth === "body" && client.secret !== undefined) params.set("client_secret", client.secret);
  }
  const body = placeParams(plan, params, url, headers);
  return {
    method: plan.method,
    url: url.href,
    headers: [...headers],
    body,
    allowedHosts,
    allowLoopback: provider.allowLoopback,
    fresh: false,
    timeoutMs: building.timeoutMs,
    maxBodyBytes: MAX_BODY_BYTES,
  };
}

/** A GET or DELETE has its parameters in the query, everything else in the body. */
function placeParams(
  plan: RequestPlan,
  params: ReadonlyMap<string, string>,
  url: URL,
  headers: Map<string, string>,
): Uint8Array | undefined {
  if (plan.method === "GET" || plan.method === "DELETE") {
    for (const [name, value] of params) url.searchParams.append(name, value);
    return undefined;
  }
  if (params.size === 0) return undefined;
  const json = plan.bodyFormat === "json";
  if (!headers.has("content-type"))
    headers.set("content-type", json ? "application/json" : "application/x-www-form-urlencoded");
  return Buffer.from(
    json ? JSON.stringify(Object.fromEntries(params)) : new URLSearchParams([...params]).toString(),
  );
}

/** RFC 6749 §2.3.1: id and secret are form-encoded first. `loose` servers take them as they are. */
export function basicAuth(client: ClientIdentity, formEncode: boolean): string {
  const encode = (text: string) => (formEncode ? formEncoded(text) : text);
  return `Basic ${Buffer.from(`${encode(client.id)}:${encode(client.secret ?? "")}`).toString("base64")}`;
}

/** RFC 6749 appendix B. */
function formEncoded(text: string): string {
  return new URLSearchParams([["", text]]).toString().slice(1);
}

/** The file's hosts for this account. DESTINATION_NOT_ALLOWED unless `url` goes to one of them. */
export function allowedHostsFor(
  provider: Provider,
  fields: Readonly<Record<string, string>>,
  url: URL,
): string[] {
  const hosts = hostsOf(provider, fields);
  const isAllowed = hosts.some((host) => isHostAllowed(host, url));
  if (isAllowed) return [...new Set(hosts)];
  throw new KeyturnError(
    "DESTINATION_NOT_ALLOWED",
    `The provider's file does not allow requests to ${url.hostname}.`,
  );
}

/** The file's hosts for an account with these fields: exact ones with or without a port, and `*.domain`. */
export function hostsOf(provider: Provider, fields: Readonly<Record<string, string>>): readonly string[] {
  const lookup = fieldLookup(provider.fields, fields);
  return provider.allowedHosts.flatMap((template) => hostOf(template, lookup) ?? []);
}

/** Undefined when the account lacks a field that this host needs: then nothing can be meant to go there. */
function hostOf(template: Template, lookup: Lookup): string | undefined {
  try {
    return render(template, lookup).toLowerCase();
  } catch (error) {
    if (error instanceof KeyturnError) return undefined;
    throw error;
  }
}

function isHostAllowed(host: string, url: URL): boolean {
  if (host === url.hostname || host === url.host) return true;
  return host.startsWith("*.") && url.hostname !== host.slice(2) && isWithin(url.hostname, host.slice(2));
}
