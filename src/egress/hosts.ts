import { isIP, isIPv4 } from "node:net";
import { KeyturnError } from "../errors.ts";
import { addressAllowed, type Permits } from "./addresses.ts";

/** Where a request goes, once the guard has let it. */
export interface Destination {
  readonly secure: boolean;
  /** Lower-case name, or an IP address without brackets. */
  readonly host: string;
  readonly port: number;
  /** Scheme, host and port; the port is left out when it is the scheme's own. */
  readonly origin: string;
  /** Path and query, percent-encoded. May hold secrets. */
  readonly path: string;
}

const LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?";
const NAME = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`);
const AUTHORITY = /^(\[[0-9a-f:.]+\]|[^:[\]]+)(?::([0-9]{1,5}))?$/;

// What browsers and getaddrinfo read as IPv4 in disguise: 127.1, 2130706433, 0x7f.1, 0177.0.0.1.
const NUMERIC_END = /(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$/;

interface Authority {
  readonly name: string;
  readonly port: number | undefined;
}

function parseAuthority(text: string): Authority | undefined {
  const found = AUTHORITY.exec(text.toLowerCase());
  const name = found?.[1];
  if (name === undefined) return undefined;
  const port = found?.[2] === undefined ? undefined : Number(found[2]);
  if (port !== undefined && (port < 1 || port > 65_535)) return undefined;
  return { name, port };
}

function isHostName(name: string): boolean {
  return name.length <= 253 && NAME.test(name) && !NUMERIC_END.test(name);
}

/** The IP address in a host in its one canonical form; undefined for names and for every disguise. */
function literalOf(name: string): string | undefined {
  if (isIPv4(name)) return name;
  if (!name.startsWith("[")) return undefined;
  return URL.canParse(`https://${name}`) && new URL(`https://${name}`).hostname === name
    ? name.slice(1, -1)
    : undefined;
}

function isLoopbackHost(host: string): boolean {
  if (isIP(host) !== 0) return addressAllowed(host, false, { allowLoopback: true });
  return host === "localhost" || host.endsWith(".localhost");
}

function nameMatches(name: string, pattern: string): boolean {
  if (!pattern.startsWith("*.")) return name === pattern;
  return isHostName(name) && name.length > pattern.length - 1 && name.endsWith(pattern.slice(1));
}

/**
 * True when `host` (`name` or `name:port`) matches one of `patterns`: a host, a host:port, or `*.example.com` for one or
 * more labels in front. A missing port means 443, on either side; a loopback pattern without a port matches any port.
 */
export function hostAllowed(host: string, patterns: readonly string[]): boolean {
  const asked = parseAuthority(host);
  if (asked === undefined) return false;
  const literal = literalOf(asked.name);
  if (literal === undefined && !isHostName(asked.name)) return false;
  return patterns.some((text) => {
    const pattern = parseAuthority(text);
    if (pattern === undefined || !nameMatches(asked.name, pattern.name)) return false;
    if (pattern.port === undefined && isLoopbackHost(literal ?? asked.name)) return true;
    return (asked.port ?? 443) === (pattern.port ?? 443);
  });
}

/** DESTINATION_NOT_ALLOWED; `host` only when it is known to hold nothing but a host. */
export function notAllowed(cause: string, why: string, host?: string): KeyturnError {
  const message =
    host === undefined ? `The destination is not allowed: ${why}.` : `${host} is not allowed: ${why}.`;
  const metadata: Record<string, string> = host === undefined ? { cause } : { cause, host };
  return new KeyturnError("DESTINATION_NOT_ALLOWED", message, { metadata });
}

function hasControl(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}

// The parser of `new URL` forgives (tabs, backslashes, missing slashes, disguised addresses), so what it is given is
// first held against a grammar that does not, and afterwards it must have read the very same host.
function authorityOf(url: string): { readonly secure: boolean; readonly authority: string } {
  if (hasControl(url)) throw notAllowed("control_character", "the URL holds a control character");
  if (url.includes("\\")) throw notAllowed("backslash", "the URL holds a backslash");
  const found = /^(https?):\/\/([^/?#]*)/i.exec(url);
  if (found === null) throw notAllowed("scheme_not_allowed", "the URL must start with https://");
  const authority = found[2] ?? "";
  if (authority.includes("@")) throw notAllowed("userinfo", "the URL holds a user name before its host");
  for (const character of authority) {
    if (character > "~") throw notAllowed("host_not_ascii", "the URL's host must be ASCII (punycode)");
  }
  if (url.includes("#"))
    throw notAllowed("fragment", "the URL holds a fragment, which cuts off what follows it");
  return { secure: found[1]?.toLowerCase() === "https", authority };
}

/**
 * Parses a fully rendered URL and throws DESTINATION_NOT_ALLOWED, with the cause in its metadata, unless its host is
 * one of `allowedHosts`. Call it before a secret is attached. Resolved addresses are checked later, at the dial.
 */
export function assertHost(url: string, allowedHosts: readonly string[], permits: Permits): Destination {
  const { secure, authority } = authorityOf(url);
  const parsed = parseAuthority(authority);
  if (parsed === undefined) throw notAllowed("host_invalid", "the URL's host or port is malformed");
  const { name } = parsed;
  const literal = literalOf(name);
  if (literal === undefined && (name.startsWith("[") || NUMERIC_END.test(name))) {
    throw notAllowed("ip_literal", "the URL's host is an IP address in disguise");
  }
  const parsedUrl = URL.parse(url);
  if ((literal === undefined && !isHostName(name)) || parsedUrl?.hostname !== name) {
    throw notAllowed("host_invalid", "the URL's host is malformed");
  }
  const host = literal ?? name;
  if (!secure && !(permits.allowLoopback && isLoopbackHost(host))) {
    throw notAllowed("scheme_not_allowed", "plain http is for permitted loopback only", name);
  }
  const port = parsed.port ?? (secure ? 443 : 80);
  if (!hostAllowed(`${name}:${port}`, allowedHosts)) {
    const cause = literal === undefined ? "host_not_allowed" : "ip_literal";
    throw notAllowed(cause, "it is none of the provider's allowed hosts", `${name}:${port}`);
  }
  if (literal !== undefined && !addressAllowed(literal, secure, permits)) {
    throw notAllowed("address_not_allowed", "addresses of this kind are not permitted", name);
  }
  const { origin, pathname, search } = parsedUrl;
  return { secure, host, port, origin, path: pathname + search };
}

/** A path and query that the parser of URLs leaves as they are. */
const PLAIN_REST =
  /^(?:\/|(?:\/[A-Za-z0-9_~!$&()*+,;=:@-][A-Za-z0-9._~!$&()*+,;=:@-]*)+\/?)(?:\?[A-Za-z0-9._~!$&()*+,;=:@/?%-]+)?$/;

/** `assertHost`, which remembers of each list of hosts what it was asked last. */
export class Hosts {
  readonly #last = new WeakMap<readonly string[], { readonly permits: Permits; readonly to: Destination }>();

  assert(url: string, allowedHosts: readonly string[], permits: Permits): Destination {
    const last = this.#last.get(allowedHosts);
    if (last !== undefined && isSame(last.permits, permits) && url.startsWith(last.to.origin)) {
      const path = url.slice(last.to.origin.length);
      if (PLAIN_REST.test(path)) return { ...last.to, path };
    }
    const to = assertHost(url, allowedHosts, permits);
    const { allowLoopback, allowPrivate } = permits;
    this.#last.set(allowedHosts, { permits: { allowLoopback, allowPrivate }, to: { ...to, path: "/" } });
    return to;
  }
}

function isSame(one: Permits, other: Permits): boolean {
  return one.allowLoopback === other.allowLoopback && one.allowPrivate === other.allowPrivate;
}
