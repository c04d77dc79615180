import { invalid, KeyturnError } from "../errors.ts";

export type Part = { readonly text: string } | { readonly variable: string };

/** A text with `${name}` in it. A string result of a parse function is what would be right. */
export type Template = readonly Part[];

const VARIABLE = /\$\{([A-Za-z][A-Za-z0-9_.]{0,127})\}/g;
const HEADER_VALUE = /^[\t\x20-\x7e]*$/;

/** Gives a variable's value, or throws when the account has none that is permitted. */
export type Lookup = (name: string) => string;

export function parseTemplate(text: string): Template | string {
  const parts: Part[] = [];
  let from = 0;
  for (const match of text.matchAll(VARIABLE)) {
    if (match.index > from) parts.push({ text: text.slice(from, match.index) });
    parts.push({ variable: match[1] ?? "" });
    from = match.index + match[0].length;
  }
  if (from < text.length) parts.push({ text: text.slice(from) });
  const broken = parts.some((part) => "text" in part && part.text.includes("${"));
  return broken ? "variables written as ${name}, of letters, digits and _" : parts;
}

export function variablesOf(template: Template): readonly string[] {
  return template.flatMap((part) => ("variable" in part ? [part.variable] : []));
}

export function render(template: Template, lookup: Lookup): string {
  return template.map((part) => ("text" in part ? part.text : lookup(part.variable))).join("");
}

/** INVALID_REQUEST when the value cannot stand in one header line. */
export function renderHeader(name: string, template: Template, lookup: Lookup): string {
  return headerValue(name, render(template, lookup));
}

export function headerValue(name: string, value: string): string {
  if (!HEADER_VALUE.test(value))
    throw invalid(`header ${name}`, "its value has characters that no header may have");
  return value;
}

/** A URL in which variables stand: in its host (or as its whole origin), its path and its query. */
export interface UrlTemplate {
  readonly source: string;
  /** `variable`: the whole origin, `https://host`. */
  readonly origin:
    | { readonly variable: string }
    | { readonly scheme: "https" | "http"; readonly authority: Template };
  readonly path: Template;
  readonly query: Template;
}

const SCHEME = /^(https?):\/\//;
const PLAIN = /^[\x21-\x7e]*$/;
const NEVER = /["<>\\^`{|}#@]/;

export function parseUrlTemplate(text: string): UrlTemplate | string {
  const literal = text.replaceAll(VARIABLE, "");
  if (!PLAIN.test(literal) || NEVER.test(literal))
    return "a URL of printable ASCII without #, @, \\ or quotes";
  const leading = /^\$\{([A-Za-z][A-Za-z0-9_]{0,63})\}(?=[/?]|$)/.exec(text);
  const scheme = SCHEME.exec(text)?.[1];
  if (leading === null && scheme === undefined)
    return "a URL that starts with https:// or with one variable for its origin";
  const rest = text.slice(leading?.[0].length ?? `${scheme}://`.length);
  const [beforeQuery = "", ...queries] = rest.split("?");
  const slash = beforeQuery.indexOf("/");
  const authority = parseTemplate(
    leading !== null ? "" : slash === -1 ? beforeQuery : beforeQuery.slice(0, slash),
  );
  const path = parseTemplate(leading !== null ? beforeQuery : slash === -1 ? "" : beforeQuery.slice(slash));
  const query = parseTemplate(queries.join("?"));
  if (typeof authority === "string") return authority;
  if (typeof path === "string") return path;
  if (typeof query === "string") return query;
  if (leading !== null) return { source: text, origin: { variable: leading[1] ?? "" }, path, query };
  if (authority.length === 0) return "a URL with a host";
  return { source: text, origin: { scheme: scheme === "http" ? "http" : "https", authority }, path, query };
}

/** Variables that decide where a request goes. */
export function hostVariables(template: UrlTemplate): readonly string[] {
  return "variable" in template.origin ? [template.origin.variable] : variablesOf(template.origin.authority);
}

const AUTHORITY = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[1-9][0-9]{0,4})?$/;

/** What a value written as an origin comes to; undefined when it is anything else than scheme and host. */
export function parseOrigin(value: string): URL | undefined {
  if (!/^https?:\/\/[^/?#@\\\s]+\/?$/.test(value) || !URL.canParse(value)) return undefined;
  const url = new URL(value);
  return AUTHORITY.test(url.host) && `${url.protocol}//${url.host}` === value.toLowerCase().replace(/\/$/, "")
    ? url
    : undefined;
}

/** Fills a URL in. DESTINATION_NOT_ALLOWED when its host or path would not be exactly the one written. */
export function renderUrl(template: UrlTemplate, lookup: Lookup): URL {
  const encoded: Lookup = (name) => encodeURIComponent(wellFormed(name, lookup(name)));
  const path = render(template.path, encoded);
  const query = render(template.query, encoded);
  const origin = originOf(template, lookup);
  const text = `${origin}${path}${query === "" ? "" : `?${query}`}`;
  if (!URL.canParse(text)) throw notAllowed(template);
  const url = new URL(text);
  const asWritten = `${url.protocol}//${url.host}` === origin && url.pathname === (path === "" ? "/" : path);
  if (!asWritten || url.username !== "" || url.password !== "" || url.hash !== "") throw notAllowed(template);
  return url;
}

/** What a URL's origin and path come to, forbidden ones too: for whoever says what is wrong with them. */
export function writtenUrl({ origin, path }: UrlTemplate, lookup: Lookup): string {
  const start =
    "variable" in origin ? lookup(origin.variable) : `${origin.scheme}://${render(origin.authority, lookup)}`;
  return start + render(path, lookup);
}

function originOf(template: UrlTemplate, lookup: Lookup): string {
  if ("variable" in template.origin) {
    const url = parseOrigin(lookup(template.origin.variable));
    if (url === undefined) throw notAllowed(template);
    return `${url.protocol}//${url.host}`;
  }
  const { scheme, authority } = template.origin;
  const host = render(authority, lookup).toLowerCase();
  const defaultPort = scheme === "https" ? ":443" : ":80";
  const plain = host.endsWith(defaultPort) ? host.slice(0, -defaultPort.length) : host;
  if (!AUTHORITY.test(plain)) throw notAllowed(template);
  return `${scheme}://${plain}`;
}

function wellFormed(name: string, value: string): string {
  if (!value.isWellFormed()) throw invalid(`fields.${name}`, "is not a well-formed text");
  return value;
}

function notAllowed(template: UrlTemplate): KeyturnError {
  return new KeyturnError(
    "DESTINATION_NOT_ALLOWED",
    `The account's fields do not make a permitted host and path of ${template.source}.`,
  );
}
