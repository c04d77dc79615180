import type { RateWindow } from "../tokens/rate-limit-headers.ts";
import type { ReadAnswer } from "./answer.ts";
import { msUntil, type TimeUnit } from "./reset-time.ts";

type Headers = Readonly<Record<string, string>>;

/** What the standard headers of any vendor say: the IETF's pair, else its older dictionary, else the older trio. */
export function standardWindows(answer: ReadAnswer, reset: TimeUnit | undefined): readonly RateWindow[] {
  const { headers } = answer;
  return structured(answer, headers) ?? dictionary(answer, headers) ?? trio(answer, reset);
}

/** `RateLimit: "name";r=50;t=30` with `RateLimit-Policy: "name";q=100;w=60` (draft-ietf-httpapi-ratelimit-headers). */
function structured(answer: ReadAnswer, headers: Headers): readonly RateWindow[] | undefined {
  const limits = parseList(headers["ratelimit"]);
  if (limits === undefined || limits.length === 0) return undefined;
  const policies = parseList(headers["ratelimit-policy"]) ?? [];
  return limits.flatMap(({ name, params }): RateWindow[] => {
    const remaining = count(params.get("r"));
    if (remaining === undefined) return [];
    const policy = policies.find((each) => each.name === name);
    const windowSeconds = count(policy?.params.get("w"));
    return [
      {
        name: name.startsWith('"') ? name.slice(1, -1).replace(/\\(.)/g, "$1") : name,
        limit: count(policy?.params.get("q")),
        remaining,
        resetAfterMs: msUntil(params.get("t"), "delta", answer),
        windowMs: windowSeconds === undefined ? undefined : windowSeconds * 1_000,
      },
    ];
  });
}

const ITEM =
  /^\s*("(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"|[A-Za-z*][\w:/!#$%&'*+.^`|~-]*)((?:\s*;\s*[a-z*][a-z0-9_.*-]*(?:=(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"|:[A-Za-z0-9+/=]*:|[A-Za-z*][\w:/!#$%&'*+.^`|~-]*|\?[01]))?)*)\s*(,|$)/;

/** An RFC 9651 list of strings or tokens with parameters; undefined when it is malformed, as the RFC has it. */
function parseList(
  value: string | undefined,
): { readonly name: string; readonly params: ReadonlyMap<string, string> }[] | undefined {
  if (value === undefined || value.length > 4_096) return undefined;
  const items = [];
  for (let rest = value; rest !== ""; ) {
    const match = ITEM.exec(rest);
    if (match === null) return undefined;
    const [whole, name = "", text = "", end] = match;
    items.push({ name, params: parameters(text) });
    rest = rest.slice(whole.length);
    if (end === "," && rest.trim() === "") return undefined;
  }
  return items;
}

function parameters(text: string): ReadonlyMap<string, string> {
  const pairs = text.matchAll(/;\s*([a-z*][a-z0-9_.*-]*)(?:=("(?:[^"\\]|\\.)*"|[^;\s]*))?/g);
  return new Map([...pairs].map(([, name = "", value = "?1"]) => [name, value]));
}

/** An older draft: `RateLimit: limit=100, remaining=50, reset=30`. */
function dictionary(answer: ReadAnswer, headers: Headers): readonly RateWindow[] | undefined {
  const value = headers["ratelimit"];
  if (value === undefined || value.length > 4_096) return undefined;
  const members = new Map(
    value.split(",").map((each) => {
      const [name = "", text = ""] = each.split("=");
      return [name.trim().toLowerCase(), text.trim()];
    }),
  );
  const limit = count(members.get("limit"));
  const remaining = count(members.get("remaining"));
  const resetAfterMs = msUntil(members.get("reset"), "delta", answer);
  if (limit === undefined && remaining === undefined && resetAfterMs === undefined) return undefined;
  return [{ name: "default", limit, remaining, resetAfterMs, windowMs: undefined }];
}

const PREFIXES = ["ratelimit", "x-ratelimit", "x-rate-limit"];

/** The older trio. Its reset counts seconds from now, or is a point in time, as the file says or its size tells. */
function trio(answer: ReadAnswer, reset: TimeUnit | undefined): readonly RateWindow[] {
  const find = (what: string) => {
    const name = PREFIXES.map((prefix) => `${prefix}-${what}`).find((each) =>
      Object.hasOwn(answer.headers, each),
    );
    return name === undefined ? undefined : answer.headers[name];
  };
  const limit = count(firstOf(find("limit")));
  const remaining = count(firstOf(find("remaining")));
  const resetAfterMs = msUntil(find("reset"), reset, answer);
  if (limit === undefined && remaining === undefined && resetAfterMs === undefined) return [];
  return [{ name: "default", limit, remaining, resetAfterMs, windowMs: undefined }];
}

/** `100, 100;w=60` was a spelling of one draft: the first number is the one that applies now. */
function firstOf(text: string | undefined): string | undefined {
  return text?.split(/[,;]/)[0]?.trim();
}

/** A count as a vendor writes it, rounded down; a negative one is none left. Undefined when malformed. */
export function count(text: string | undefined): number | undefined {
  if (text === undefined || !/^-?[0-9]{1,15}(\.[0-9]{1,9})?$/.test(text)) return undefined;
  return Math.max(0, Math.floor(Number(text)));
}
