import { KeyturnError } from "../../src/errors.ts";
import type { Connections, Started, WantedAuthorization } from "../../src/tokens/connections.ts";
import type { Secret } from "../../src/tokens/secret.ts";
import { MINUTE_MS, SECOND_MS, type Stage } from "./stage.ts";

/** Who connects accounts on a stage. */
export const ACTOR = { caller: "app", purpose: "connect" };
export const REDIRECT = "https://app.example/callback";
export const WANTED: WantedAuthorization = {
  provider: "vendor",
  client: "main",
  tenant: "acme",
  accountId: "a",
  fields: {},
  labels: { plan: "gold" },
  allowIdentityChange: false,
  scopes: [],
  redirectUri: REDIRECT,
  returnUrl: "",
  caller: "",
};

export function start(stage: Stage, over: Partial<WantedAuthorization> = {}): Promise<Started> {
  return stage.within(
    SECOND_MS,
    stage.heart.connections.start({ ...WANTED, ...over }, () => undefined, ACTOR),
  );
}

export function callbackOf({ url }: Started, query = "code=c", at = REDIRECT): string {
  return `${at}?state=${new URL(url).searchParams.get("state")}&${query}`;
}

export interface Completing {
  readonly query?: string;
  readonly at?: string;
  readonly binding?: Secret;
  readonly caller?: string;
  readonly connections?: Connections;
  /** How long the caller waits; for ever by default. */
  readonly deadlineMs?: number;
}

export function complete(stage: Stage, of: Started, how: Completing = {}) {
  const { query, at, connections = stage.heart.connections } = how;
  const who = {
    browserBinding: how.binding ?? of.browserBinding,
    caller: how.caller,
    permit: () => undefined,
    untilBootMs: stage.world.clock.boot() + (how.deadlineMs ?? Number.POSITIVE_INFINITY),
  };
  return connections.complete(callbackOf(of, query, at), who, ACTOR);
}

/** The reason and cause that it ends with, or `ok`. */
export function ending(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "ok",
    (error: unknown) => {
      if (!(error instanceof KeyturnError)) throw error;
      return [error.reason, error.metadata["cause"]].filter(Boolean).join(" ");
    },
  );
}

/** The same, and time passes until then. */
export function outcome(stage: Stage, work: Promise<unknown>): Promise<string> {
  return stage.within(MINUTE_MS, ending(work));
}
