import { randomBytes, randomUUID } from "node:crypto";
import { invalid } from "../errors.ts";
import type { Account } from "../tokens/account.ts";
import type { Credential } from "../tokens/credential.ts";
import { isObject, type Value, type ValueObject } from "./expression/values.ts";
import { fieldLookup } from "./fields.ts";
import type { NamedValues, Provider, ValuePlan } from "./provider.ts";
import { type Lookup, render, type Template } from "./template.ts";

/** Of our app, of the account and its credential, and of this one request: the same in all its parts. */
const ALWAYS = [
  "client_id",
  "client_secret",
  "client_key",
  "client_key_id",
  "account_id",
  "access_token",
  "refresh_token",
  "scope",
  "now",
  "now_ms",
  "now_iso",
  "uuid",
  "nonce",
];
/** Of the code's exchange alone. */
const OF_CODE = ["code", "redirect_uri", "code_verifier", "state"];
const OBJECTS = ["fields", "members", "params", "request"];

/** True for names that the values of requests have taken. */
export function isRequestValue(name: string): boolean {
  return [...ALWAYS, ...OF_CODE, ...OBJECTS, "assertion"].includes(name);
}

/** The names that a text of a token request may use, beside the account's fields. */
export function tokenRequestNames(of: {
  readonly code: boolean;
  readonly assertion: boolean;
  readonly customerFields: readonly string[];
}): (name: string) => boolean {
  const names = [
    ...ALWAYS,
    ...(of.code ? OF_CODE : []),
    ...(of.assertion ? ["assertion"] : []),
    ...of.customerFields,
  ];
  return (name) => names.includes(name) || name.startsWith("members.");
}

/** As `tokenRequestNames`, for requests about a token rather than for one. */
export function requestNames(more: readonly string[]): (name: string) => boolean {
  const names = ["client_id", "account_id", "now", "now_ms", "now_iso", "uuid", "nonce", ...more];
  return (name) => names.includes(name);
}

/** What identifies our app to the provider, in the clear; it goes into one request and nowhere else. */
export interface ClientIdentity {
  readonly id: string;
  /** Undefined for a public client. */
  readonly secret: string | undefined;
  /** PEM or JWK. */
  readonly privateKey?: string | undefined;
  readonly keyId?: string | undefined;
  /** PEM, the client's own certificate first. */
  readonly certificate?: { readonly chain: string; readonly key: string } | undefined;
}

/** The values of one request. Plain secrets are among them. */
export function requestValues(of: {
  readonly account: Pick<Account, "fields"> & { readonly id?: string };
  readonly client: ClientIdentity | undefined;
  readonly nowMs: number;
}): ValueObject {
  const { account, client, nowMs } = of;
  return {
    client_id: client?.id,
    client_secret: client?.secret,
    client_key: client?.privateKey,
    client_key_id: client?.keyId,
    account_id: account.id,
    now: Math.floor(nowMs / 1_000),
    now_ms: nowMs,
    now_iso: new Date(nowMs).toISOString(),
    uuid: randomUUID(),
    nonce: randomBytes(16).toString("base64url"),
    fields: account.fields,
  };
}

/** What an account's credential adds to the values of a request: its tokens, and the customer's lasting secrets. */
export function credentialValues(credential: Credential): ValueObject {
  switch (credential.kind) {
    case "oauth":
      return {
        ...customerValues(credential.source),
        access_token: credential.accessToken.reveal(),
        refresh_token: credential.refreshToken?.reveal(),
        members: credential.members.reveal(),
      };
    case "unminted":
      return customerValues(credential.source);
    default:
      return {};
  }
}

/** The customer's lasting secrets in the clear. */
export function customerValues(
  source: Extract<Credential, { kind: "unminted" }>["source"],
): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(source ?? {}).map(([name, secret]) => [name, secret.reveal()]));
}

/** Texts of a request: its own values first, then the account's fields, each checked when it is used. */
export function requestLookup(
  provider: Provider,
  fields: Readonly<Record<string, string>>,
  values: ValueObject,
): Lookup {
  const field = fieldLookup(provider.fields, fields);
  return (name) => {
    const value = at(values, name);
    if (typeof value === "string") return value;
    if (typeof value === "number" || typeof value === "boolean") return String(value);
    if (value === undefined && provider.fields.has(name)) return field(name);
    throw invalid(name, "a request of this provider's file needs it, and there is none");
  };
}

function at(values: ValueObject, path: string): Value {
  let value: Value = values;
  for (const step of path.split("."))
    value = isObject(value) && Object.hasOwn(value, step) ? value[step] : undefined;
  return value;
}

/** True for a text with variables, false for an expression. */
export function isText(plan: ValuePlan): plan is Template {
  return Array.isArray(plan);
}

/** INVALID_REQUEST names `what` when its expression fails; undefined: it gives nothing. */
export function resolveValue(what: string, plan: ValuePlan, lookup: Lookup, values: ValueObject): Value {
  if (isText(plan)) return render(plan, lookup);
  const outcome = plan.run(values);
  if (outcome.ok) return outcome.value;
  throw invalid(what, `its expression in the provider's file failed: ${outcome.why}`);
}

/** As `resolveValue`, for places where only a text can stand. */
export function resolveText(
  what: string,
  plan: ValuePlan | undefined,
  lookup: Lookup,
  values: ValueObject,
): string | undefined {
  const value = plan === undefined ? undefined : resolveValue(what, plan, lookup, values);
  return value === undefined || value === null ? undefined : wireText(value);
}

/** A parameter as forms and queries write it. */
export function wireText(value: Value): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "");
}

/** True when one of `plans` reads the value `name`. */
export function names(plans: NamedValues, name: string): boolean {
  return plans.some(([, plan]) =>
    isText(plan)
      ? plan.some((part) => "variable" in part && part.variable === name)
      : new RegExp(`\\b${name}\\b`).test(plan.source),
  );
}
