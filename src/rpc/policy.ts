import { createHash, timingSafeEqual } from "node:crypto";
import { KeyturnError } from "../errors.ts";
import { hasDotSegment } from "../tokens/forwarding.ts";
import { Memo } from "./memo.ts";

/** One caller token and what it may do. Lists are globs in which `*` stands for any text. */
export interface CallerRule {
  readonly name: string;
  readonly token_sha256: readonly string[];
  readonly rpcs: readonly string[];
  readonly tenants: readonly string[];
  readonly providers: readonly string[];
  readonly accounts: readonly string[];
  /** Undefined: as many as every caller may send. */
  readonly requests_per_second?: number | undefined;
  readonly methods: readonly string[];
  readonly paths: readonly string[];
}

/** An HTTP request to be made, or let through, with an account's credential. */
export interface HttpRequestLine {
  readonly method: string;
  /** Without the query, percent-encoded as it is sent. */
  readonly path: string;
}

/** Who calls. Without rules the socket's file permissions have decided, and everything is allowed. */
export interface Caller {
  /** A rule's name, or how the caller reached us: `uds`, `tcp`. */
  readonly name: string;
  /** False when `maySee` is true of everything. */
  readonly isRestricted: boolean;
  /** Undefined: as many as every caller may send. */
  readonly requestsPerSecond: number | undefined;
  mayCall(rpc: string): boolean;
  maySee(of: { readonly tenant: string; readonly provider: string; readonly account: string }): boolean;
  /** False when `mayRequest` is true of everything. */
  readonly isRequestRestricted: boolean;
  mayRequest(line: HttpRequestLine): boolean;
}

const always = () => true;

export function anyone(name: string): Caller {
  return {
    name,
    isRestricted: false,
    requestsPerSecond: undefined,
    mayCall: always,
    maySee: always,
    isRequestRestricted: false,
    mayRequest: always,
  };
}

/** Tells callers by their token. Without rules everybody is `anyone`. */
export class Callers {
  readonly #rules: readonly { readonly hashes: readonly Buffer[]; readonly caller: Caller }[];

  constructor(rules: readonly CallerRule[]) {
    this.#rules = rules.map((rule) => ({
      hashes: rule.token_sha256.map((hex) => Buffer.from(hex, "hex")),
      caller: callerOf(rule),
    }));
  }

  /** False without rules: callers' tokens are not looked at. */
  get areTold(): boolean {
    return this.#rules.length > 0;
  }

  /** CALLER_UNKNOWN without a token that a rule names. `via` is the name where there are no rules. */
  identify(authorization: string | undefined, via: string): Caller {
    if (this.#rules.length === 0) return anyone(via);
    const token = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(authorization ?? "")?.[1];
    if (token === undefined) throw unknown("Send your caller token as `authorization: Bearer …`.");
    const hash = createHash("sha256").update(token).digest();
    let found: Caller | undefined;
    // Every hash is compared, so that the time taken tells nothing about which ones there are.
    for (const { hashes, caller } of this.#rules) {
      for (const known of hashes) if (timingSafeEqual(known, hash)) found = caller;
    }
    if (found === undefined) throw unknown("This caller token is not known here.");
    return found;
  }
}

function unknown(message: string): KeyturnError {
  return new KeyturnError("CALLER_UNKNOWN", message);
}

function callerOf(rule: CallerRule): Caller {
  const rpcs = matcher(rule.rpcs);
  const tenants = matcher(rule.tenants);
  const providers = matcher(rule.providers);
  const accounts = matcher(rule.accounts);
  const methods = matcher(rule.methods.map((method) => method.toUpperCase()));
  const paths = matcher(rule.paths);
  return {
    name: rule.name,
    isRestricted: true,
    requestsPerSecond: rule.requests_per_second,
    mayCall: (rpc) => rpcs.test(rpc),
    maySee: ({ tenant, provider, account }) =>
      tenants.test(tenant) && providers.test(provider) && accounts.test(account),
    isRequestRestricted: [...rule.methods, ...rule.paths].some((glob) => glob !== "*"),
    mayRequest: ({ method, path }) =>
      methods.test(method.toUpperCase()) && paths.test(path) && !hasDotSegment(path),
  };
}

function matcher(globs: readonly string[]): RegExp {
  const one = (glob: string) => glob.split("*").map(RegExp.escape).join(".*");
  return new RegExp(`^(?:${globs.map(one).join("|")})$`, "s");
}

/** They stand in routes. */
const matchers = new Memo<RegExp>(1_000);

/** `*` stands for any text; everything else for itself, case-sensitive. */
export function matchesGlob(glob: string, text: string): boolean {
  return matchers.get(glob, () => matcher([glob])).test(text);
}

/** CALLER_NOT_ALLOWED; the message says what to ask the operator for. */
export function requireRpc(caller: Caller, rpc: string): void {
  if (caller.mayCall(rpc)) return;
  throw new KeyturnError("CALLER_NOT_ALLOWED", `The caller token's policy does not name ${rpc}.`, {
    metadata: { caller: caller.name, rpc },
  });
}

/** What a caller may not see is not there for it, so that ids cannot be probed. */
export function requireSight(
  caller: Caller,
  of: { readonly tenant: string; readonly provider: string; readonly account: string },
): void {
  if (caller.maySee(of)) return;
  throw new KeyturnError("CALLER_NOT_ALLOWED", "The caller token's policy does not name this account.", {
    metadata: { caller: caller.name },
  });
}

/** CALLER_NOT_ALLOWED; the message says what to ask the operator for. */
export function requireRequest(caller: Caller, line: HttpRequestLine): void {
  if (caller.mayRequest(line)) return;
  throw new KeyturnError(
    "CALLER_NOT_ALLOWED",
    "The caller token's policy does not name this method and path.",
    { metadata: { caller: caller.name, method: line.method.slice(0, 32) } },
  );
}
