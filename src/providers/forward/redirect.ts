import type { ForwardedCall, HttpFields } from "../../tokens/forwarding.ts";
import { headersElsewhere } from "./headers.ts";

/** What a call sets out with. */
export interface Start {
  readonly base: URL;
  /** The credential's own query parameters. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly permits: ForwardedCall["permits"];
}

/** One request of a call. */
export interface Hop {
  readonly method: string;
  readonly url: string;
  readonly headers: HttpFields;
  readonly body: ForwardedCall["body"];
  /** No redirect has led to another origin yet. */
  readonly atHome: boolean;
}

/**
 * The request that a redirect asks for (RFC 9110 §15.4); undefined when the answer is none, or one that is not followed:
 * a POST that would become a GET by habit alone, a body that cannot be sent again or would go elsewhere. The credential
 * goes to the origin of the base URL only, and not back there from another one.
 */
export function redirected(
  start: Start,
  hop: Hop,
  { status, headers }: { readonly status: number; readonly headers: HttpFields },
): Hop | undefined {
  const to = headers.find(([name]) => name === "location")?.[1];
  const method = methodAfter(status, hop.method);
  if (to === undefined || method === undefined || !URL.canParse(to, hop.url)) return undefined;
  const url = new URL(to, hop.url);
  url.hash = "";
  const atHome = hop.atHome && url.origin === start.base.origin;
  const body = method === hop.method ? hop.body : undefined;
  if (body !== undefined && !(atHome && body instanceof Uint8Array)) return undefined;
  if (!atHome && method !== "GET" && method !== "HEAD") return undefined;
  if (start.permits?.(method, belowBase(start.base, url)) === false) return undefined;
  placeCredential(url, start.parameters, atHome);
  const kept = atHome ? hop.headers : headersElsewhere(hop.headers);
  return {
    method,
    url: url.href,
    headers: method === hop.method ? kept : withoutContent(kept),
    body,
    atHome,
  };
}

/** The method to go on with; undefined when the status is not to be followed. */
function methodAfter(status: number, method: string): string | undefined {
  const reads = method === "GET" || method === "HEAD";
  if (status === 307 || status === 308) return method;
  if (status === 303) return reads ? method : "GET";
  return (status === 301 || status === 302) && reads ? method : undefined;
}

/** Undefined when it is not below the base URL. */
function belowBase(base: URL, url: URL): string | undefined {
  const prefix = base.pathname.replace(/\/$/, "");
  const isBelow = url.origin === base.origin && `${url.pathname}/`.startsWith(`${prefix}/`);
  return isBelow ? url.pathname.slice(prefix.length) : undefined;
}

/** A provider may have copied its own query into the address that it sends us to. */
function placeCredential(url: URL, parameters: Start["parameters"], atHome: boolean): void {
  for (const [name, value] of Object.entries(parameters)) {
    const copied = [...url.searchParams].filter(([other, held]) => other === name || held === value);
    for (const [other] of copied) url.searchParams.delete(other);
    if (atHome) url.searchParams.append(name, value);
  }
}

function withoutContent(headers: HttpFields): HttpFields {
  return headers.filter(([name]) => !name.toLowerCase().startsWith("content-"));
}
