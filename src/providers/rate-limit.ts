import type { RateLimit } from "../errors.ts";
import { type ReadAnswer, vendorNowMs } from "./answer.ts";

/** Longer waits are told as this. */
const MAX_WAIT_MS = 365 * 86_400_000;
/** An older reset counted in seconds that is larger than this is a point in time. */
const EPOCH_FROM_SECONDS = 1_000_000_000;

/** The vendor's throttling in whatever headers it told it; undefined when it told nothing. Malformed parts are ignored. */
export function rateLimitOf(
  answer: ReadAnswer,
  reset: "delta" | "epoch" | "epoch_ms" | undefined,
): RateLimit | undefined {
  const { headers } = answer;
  const retryAfterMs = retryAfter(headers["retry-after"], answer);
  const { limit, remaining, resetAfterMs } = standard(headers) ?? dictionary(headers) ?? trio(answer, reset);
  const found: RateLimit = { limit, remaining, resetAfterMs, retryAfterMs };
  return Object.values(found).some((value) => value !== undefined) ? found : undefined;
}

type Window = Omit<RateLimit, "retryAfterMs">;

/** RFC 9110 §10.2.3: seconds, or a date by the vendor's own clock. Milliseconds, never negative. */
export function retryAfter(value: string | undefined, answer: ReadAnswer): number | undefined {
  const text = value?.trim() ?? "";
  if (/^-?[0-9]{1,12}(\.[0-9]{1,9})?$/.test(text)) return clamp(Number(text) * 1_000);
  if (!/^[A-Za-z]{3,9},? /.test(text)) return undefined;
  const atMs = Date.parse(text);
  return Number.isNaN(atMs) ? undefined : clamp(atMs - (vendorNowMs(answer) ?? answer.receivedAtMs));
}

function clamp(ms: number): number {
  return Math.min(MAX_WAIT_MS, Math.max(0, Math.round(ms)));
}

/** `RateLimit: "name";r=50;t=30` with `RateLimit-Policy: "name";q=100;w=60`: the window with the least left. */
function standard(headers: Readonly<Record<string, string>>): Window | undefined {
  const limits = parseList(headers["ratelimit"]);
  if (limits === undefined || limits.length === 0) return undefined;
  const policies = parseList(headers["ratelimit-policy"]) ?? [];
  const windows = limits.flatMap(({ name, params }): Window[] => {
    const remaining = count(params.get("r"));
    if (remaining === undefined) return [];
    const resetSeconds = count(params.get("t"));
    const policy = policies.find((each) => each.name === name);
    return [
      {
        limit: count(policy?.params.get("q")),
        remaining,
        resetAfterMs: resetSeconds === undefined ? undefined : clamp(resetSeconds * 1_000),
      },
    ];
  });
  return windows.sort((a, b) => (a.remaining ?? 0) - (b.remaining ?? 0))[0];
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
function dictionary(headers: Readonly<Record<string, string>>): Window | undefined {
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
  const reset = count(members.get("reset"));
  if (limit === undefined && remaining === undefined && reset === undefined) return undefined;
  return { limit, remaining, resetAfterMs: reset === undefined ? undefined : clamp(reset * 1_000) };
}

const PREFIXES = ["ratelimit", "x-ratelimit", "x-rate-limit"];

/** The older trio. Its reset counts seconds from now, or is a point in time, as the file says or its size tells. */
function trio(answer: ReadAnswer, reset: "delta" | "epoch" | "epoch_ms" | undefined): Window {
  const find = (what: string) => {
    const name = PREFIXES.map((prefix) => `${prefix}-${what}`).find((each) =>
      Object.hasOwn(answer.headers, each),
    );
    // `100, 100;w=60` was a spelling of one draft: the first number is the one that applies now.
    return name === undefined ? undefined : count(answer.headers[name]?.split(/[,;]/)[0]?.trim());
  };
  const value = find("reset");
  return {
    limit: find("limit"),
    remaining: find("remaining"),
    resetAfterMs: value === undefined ? undefined : untilReset(value, answer, reset),
  };
}

function untilReset(
  value: number,
  answer: ReadAnswer,
  reset: "delta" | "epoch" | "epoch_ms" | undefined,
): number {
  const kind =
    reset ??
    (value >= EPOCH_FROM_SECONDS * 1_000 ? "epoch_ms" : value >= EPOCH_FROM_SECONDS ? "epoch" : "delta");
  if (kind === "delta") return clamp(value * 1_000);
  const atMs = kind === "epoch" ? value * 1_000 : value;
  return clamp(atMs - (vendorNowMs(answer) ?? answer.receivedAtMs));
}

/** A number of the header kind; negative ones are none left. */
function count(text: string | undefined): number | undefined {
  if (text === undefined || !/^-?[0-9]{1,15}(\.[0-9]{1,9})?$/.test(text)) return undefined;
  return Math.max(0, Number(text));
}
