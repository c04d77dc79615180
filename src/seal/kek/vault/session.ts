import type { Clock } from "../../../clock.ts";
import type { Secret } from "../../../tokens/secret.ts";
import type { Report } from "../../../tokens/world.ts";
import type { VaultClient } from "./client.ts";
import { isVaultFault } from "./fault.ts";
import { type LogIn, type Login, renewed } from "./login.ts";

/** Of the lease; then a tenth of it is left to chance, so that a fleet does not renew at once. */
const RENEW_AT = 2 / 3;
const JITTER = 1 / 10;
const RETRY_AT_LEAST_MS = 250;
const RETRY_AT_MOST_MS = 30_000;
/** A renewal that gives so much less than the first lease meets the token's last day: a new login is due. */
const SHRUNK = 1 / 2;
/** A token denied so soon after it took the place of a denied one is denied by policy: one login more changes nothing. */
const REPLACE_AGAIN_MS = 10_000;
/** A refused login is not repeated sooner: Vault locks out who insists. */
const REFUSED_MS = 10_000;

interface SessionDeps {
  readonly client: VaultClient;
  readonly logIn: LogIn;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly report: Report;
}

interface Held extends Login {
  readonly sinceBootMs: number;
}

/**
 * The sidecar's token at Vault: one login for all who wait, renewed by a loop of its own (node-vault's overflows
 * setTimeout at the usual 32 days), and replaced when Vault does not know it any more.
 */
export class Session {
  readonly #deps: SessionDeps;
  readonly #closed = new AbortController();
  #tending = new AbortController();
  #held: Held | undefined;
  #entering: Promise<Held> | undefined;
  #replacedBootMs = Number.NEGATIVE_INFINITY;
  #refusal: { readonly error: unknown; readonly untilBootMs: number } | undefined;

  constructor(deps: SessionDeps) {
    this.#deps = deps;
  }

  /** Logs in when there is no token yet. KEK_UNAVAILABLE. */
  async token(): Promise<Secret> {
    return (this.#held ?? (await this.#enter())).token;
  }

  /** What to try in the place of a token that Vault denied; undefined when it is the policy that denies. */
  async instead(denied: Secret): Promise<Secret | undefined> {
    const held = this.#held;
    if (held !== undefined && held.token !== denied) return held.token;
    const nowMs = this.#deps.clock.boot();
    if (this.#entering === undefined) {
      if (nowMs - this.#replacedBootMs < REPLACE_AGAIN_MS) return undefined;
      this.#replacedBootMs = nowMs;
    }
    const { token } = await this.#enter();
    return token.reveal() === denied.reveal() ? undefined : token;
  }

  close(): void {
    this.#closed.abort();
    this.#tending.abort();
  }

  #enter(): Promise<Held> {
    this.#entering ??= this.#logIn().finally(() => {
      this.#entering = undefined;
    });
    return this.#entering;
  }

  async #logIn(): Promise<Held> {
    const { clock, logIn } = this.#deps;
    if (this.#refusal !== undefined && clock.boot() < this.#refusal.untilBootMs) throw this.#refusal.error;
    const sinceBootMs = clock.boot();
    try {
      const held = { ...(await logIn()), sinceBootMs };
      this.#refusal = undefined;
      this.#hold(held);
      return held;
    } catch (error) {
      if (isVaultFault(error, "login_refused")) {
        this.#refusal = { error, untilBootMs: clock.boot() + REFUSED_MS };
      }
      throw error;
    }
  }

  #hold(held: Held): void {
    this.#tending.abort();
    this.#held = held;
    if (this.#closed.signal.aborted || held.leaseMs === 0) return;
    this.#tending = new AbortController();
    const { signal } = this.#tending;
    // Rejects when its sleep is aborted, and for nothing else.
    this.#tend(held, signal).catch(() => undefined);
  }

  /** Renews for as long as that goes; then logs in, with which another tending starts. */
  async #tend(first: Held, signal: AbortSignal): Promise<void> {
    const { clock, random, report } = this.#deps;
    let held = first;
    let failures = 0;
    let dueMs = held.leaseMs * (RENEW_AT - JITTER * random());
    for (;;) {
      const waitMs = held.sinceBootMs + dueMs - clock.boot();
      await clock.sleep(Math.max(RETRY_AT_LEAST_MS, waitMs), signal);
      try {
        const next = await this.#renewed(held, first.leaseMs);
        if (next === undefined || signal.aborted) return;
        this.#held = held = next;
        failures = 0;
        dueMs = held.leaseMs * (RENEW_AT - JITTER * random());
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        if (failures === 1) report("the Vault token could not be renewed; trying again", {}, error);
        dueMs = clock.boot() - held.sinceBootMs + retryMs(held.sinceBootMs + held.leaseMs - clock.boot());
      }
    }
  }

  /** Undefined when a new login took its place. */
  async #renewed(held: Held, firstLeaseMs: number): Promise<Held | undefined> {
    const { clock, client } = this.#deps;
    const sinceBootMs = clock.boot();
    try {
      const next = held.renewable ? await renewed(held, client) : undefined;
      if (next !== undefined && next.leaseMs >= firstLeaseMs * SHRUNK) return { ...next, sinceBootMs };
    } catch (error) {
      if (!isVaultFault(error, "denied", "refused")) throw error;
    }
    await this.#enter();
    return undefined;
  }
}

/** Several tries in what is left of the lease; after its end, calls themselves log in. */
function retryMs(leftMs: number): number {
  return leftMs <= 0 ? RETRY_AT_MOST_MS : Math.min(RETRY_AT_MOST_MS, Math.max(RETRY_AT_LEAST_MS, leftMs / 4));
}
