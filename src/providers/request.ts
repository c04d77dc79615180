import { KeyturnError } from "../errors.ts";
import type { Account } from "../tokens/account.ts";
import { signedAssertion } from "./assertion.ts";
import type { Value, ValueObject } from "./expression/values.ts";
import { fieldLookup, isWithin } from "./fields.ts";
import type { AssertionPlan, ClientAuth, NamedValues, Provider, RequestPlan, TokenPlan } from "./provider.ts";
import {
  type ClientIdentity,
  requestLookup,
  requestValues,
  resolveText,
  resolveValue,
  wireText,
} from "./request-values.ts";
import type { Outbound } from "./send.ts";
import { headerValue, type Lookup, render, renderUrl, type Template } from "./template.ts";

const MAX_BODY_BYTES = 1_048_576;
const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

export interface Building {
  readonly provider: Provider;
  readonly account: Pick<Account, "fields"> & { readonly id?: string };
  readonly plan: RequestPlan;
  readonly client: ClientIdentity | undefined;
  readonly clientAuth: ClientAuth;
  /** The token that the request is for or about; decides how the client proves itself. Default: the file's first. */
  readonly token?: TokenPlan | undefined;
  /** Beside those of every request. */
  readonly values?: ValueObject;
  /** Parameters before those of the plan, which win. */
  readonly standard?: NamedValues;
  readonly params?: readonly (readonly [string, string])[];
  /** The vendor's names of standard parameters, the client's included. */
  readonly rename?: Readonly<Record<string, string | false>>;
  readonly headers?: readonly (readonly [string, string])[];
  readonly nowMs: number;
  readonly timeoutMs: number;
}

/** DESTINATION_NOT_ALLOWED or INVALID_REQUEST when file and fields do not make a permitted request, CLIENT_MISCONFIGURED when the client has no certificate to show; nothing is sent then. */
export function buildRequest(building: Building): Outbound {
  const { provider, plan, client, account } = building;
  const values = { ...requestValues(building), ...building.values };
  const lookup = requestLookup(provider, account.fields, values);
  const url = renderUrl(plan.url, lookup);
  const allowedHosts = allowedHostsFor(provider, account.fields, url);
  const headers = new Map<string, string>([["accept", "application/json"]]);
  for (const [name, value] of building.headers ?? []) headers.set(name.toLowerCase(), value);
  const params = parametersOf(building, url, lookup, values, headers);
  const body = placeParams(plan, params, url, headers, values);
  const request = {
    method: plan.method,
    url: url.href,
    path: url.pathname,
    query: url.search.slice(1),
    body: body?.toString("utf8"),
  };
  for (const [name, value] of plan.headers) {
    const text = resolveText(`headers.${name}`, value, lookup, { ...values, request });
    if (text !== undefined) headers.set(name.toLowerCase(), headerValue(name, text));
  }
  const token = building.token ?? provider.token;
  const certificate = token?.showsCertificate ? client?.certificate : undefined;
  if (token?.showsCertificate && certificate === undefined) throw clientLacks("certificate");
  return {
    method: plan.method,
    url: url.href,
    headers: [...headers],
    body,
    allowedHosts,
    allowLoopback: provider.allowLoopback,
    allowPrivate: provider.allowPrivate,
    ...(certificate === undefined ? {} : { clientCertificate: certificate }),
    fresh: false,
    timeoutMs: building.timeoutMs,
    maxBodyBytes: MAX_BODY_BYTES,
  };
}

/** Not this account's fault: all accounts of the client wait for what it lacks. */
export function clientLacks(what: "secret" | "private_key" | "certificate"): KeyturnError {
  const name = what.replace("_", " ");
  return new KeyturnError(
    "CLIENT_MISCONFIGURED",
    `The OAuth client has no ${name}, and this provider needs one.`,
    {
      metadata: { cause: `no_${what}` },
    },
  );
}

/** The standard's parameters under the vendor's names, the client's among them, then the file's own, which win. */
function parametersOf(
  building: Building,
  url: URL,
  lookup: Lookup,
  values: ValueObject,
  headers: Map<string, string>,
): ReadonlyMap<string, Value> {
  const params = new Map<string, Value>();
  const { rename = {}, plan } = building;
  const standard = (name: string, value: Value) => {
    const wire = Object.hasOwn(rename, name) ? rename[name] : name;
    if (wire !== false && wire !== undefined && value !== undefined) params.set(wire, value);
  };
  for (const [name, value] of building.params ?? []) standard(name, value);
  for (const [name, value] of building.standard ?? [])
    standard(name, resolveValue(name, value, lookup, values));
  proveClient(building, url, lookup, values, headers, standard);
  for (const [name, value] of plan.params) {
    const own = resolveValue(`params.${name}`, value, lookup, values);
    if (own !== undefined) params.set(name, own);
  }
  return params;
}

function proveClient(
  building: Building,
  url: URL,
  lookup: Lookup,
  values: ValueObject,
  headers: Map<string, string>,
  standard: (name: string, value: string) => void,
): void {
  const { client, clientAuth, provider } = building;
  if (client === undefined || clientAuth === "none") return;
  const token = building.token ?? provider.token;
  if (clientAuth === "header") {
    headers.set("authorization", basicAuth(client, token?.formEncodeCredentials !== false));
    return;
  }
  standard("client_id", client.id);
  if (clientAuth === "body" && client.secret !== undefined) standard("client_secret", client.secret);
  if (clientAuth !== "client_secret_jwt" && clientAuth !== "private_key_jwt") return;
  const isShared = clientAuth === "client_secret_jwt";
  const assertion = signedAssertion({
    plan: token?.clientAssertion ?? BARE_ASSERTION,
    lookup,
    values,
    key: isShared ? client.secret : client.privateKey,
    field: "client",
    missing: isShared ? "has no active secret to sign with" : "has no private key to sign with",
    keyId: isShared ? undefined : client.keyId,
    defaults: { issuer: client.id, subject: client.id, audience: `${url.origin}${url.pathname}` },
    ...(isShared ? { algorithm: "HS256" } : {}),
    nowMs: building.nowMs,
  });
  standard("client_assertion_type", ASSERTION_TYPE);
  standard("client_assertion", assertion);
}

const BARE_ASSERTION: AssertionPlan = {
  issuer: undefined,
  subject: undefined,
  audience: undefined,
  lifetimeMs: 60_000,
  algorithm: undefined,
  keyId: undefined,
  claims: [],
  key: { of: "client" },
};

/** A GET or DELETE has its parameters in the query, everything else where the file says. */
function placeParams(
  plan: RequestPlan,
  params: ReadonlyMap<string, Value>,
  url: URL,
  headers: Map<string, string>,
  values: ValueObject,
): Buffer | undefined {
  if (plan.body !== undefined) {
    const body = resolveValue("body", plan.body, noText, { ...values, params: Object.fromEntries(params) });
    if (body === undefined) return undefined;
    setType(headers, typeof body === "string" && plan.bodyFormat !== "json" ? FORM : JSON_TYPE);
    return Buffer.from(wireText(body));
  }
  if (plan.method === "GET" || plan.method === "DELETE" || plan.bodyFormat === "query") {
    for (const [name, value] of params) url.searchParams.append(name, wireText(value));
    return undefined;
  }
  if (params.size === 0) return undefined;
  setType(headers, plan.bodyFormat === "json" ? JSON_TYPE : FORM);
  if (plan.bodyFormat === "json") return Buffer.from(JSON.stringify(Object.fromEntries(params)));
  const form = [...params].map(([name, value]): [string, string] => [name, wireText(value)]);
  return Buffer.from(new URLSearchParams(form).toString());
}

const FORM = "application/x-www-form-urlencoded";
const JSON_TYPE = "application/json";
const noText: Lookup = () => "";

function setType(headers: Map<string, string>, type: string): void {
  if (!headers.has("content-type")) headers.set("content-type", type);
}

/** RFC 6749 §2.3.1: id and secret are form-encoded first. `loose` servers take them as they are. */
export function basicAuth(client: Pick<ClientIdentity, "id" | "secret">, formEncode: boolean): string {
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

function isHostAllowed(pattern: string, url: URL): boolean {
  if (pattern === url.host) return true;
  const [, host = "", port] = /^(.*?)(?::([0-9]+))?$/.exec(pattern) ?? [];
  if (port !== undefined && port !== (url.port || (url.protocol === "https:" ? "443" : "80"))) return false;
  if (!host.startsWith("*.")) return host === url.hostname;
  return url.hostname !== host.slice(2) && isWithin(url.hostname, host.slice(2));
}
