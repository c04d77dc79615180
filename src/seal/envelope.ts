import { randomBytes } from "node:crypto";
import type { Clock } from "../clock.ts";
import { KeyturnError, type Reason } from "../errors.ts";
import type { Actor, PreparedSeal, SealContext, Sealed, Sealer } from "../tokens/sealing.ts";
import { associatedData, SEAL_FORMAT } from "./aad.ts";
import { bounded } from "./bounded.ts";
import type { KekCalls, WrappedDek } from "./kek.ts";
import { DEK_BYTES, decryptPayload } from "./payload.ts";
import { Prepared } from "./prepared.ts";

// How a value is sealed. A fresh random key (DEK) encrypts this value and nothing else; the KEK encrypts ("wraps") that
// key; both results are stored side by side and the DEK is forgotten. Who may open is thus decided by who may ask the
// KEK. The context is authenticated by the payload cipher, not by the wrap, because Transit's rewrap takes no
// associated data: a wrapped DEK alone is worth nothing, and its ciphertext opens only in its own place.

/** KEK and audit together, per operation. */
export const KEK_LIMIT_MS = 5_000;

/** One KEK operation, for the audit trail. Holds no secret. */
export interface KekAct {
  readonly operation: "wrap" | "unwrap" | "rewrap";
  /** What it was for; undefined when a rewrap was not told. */
  readonly context: SealContext | undefined;
  readonly actor: Actor;
  readonly kekId: string;
  /** Undefined when the KEK did not answer a wrap. */
  readonly kekVersion: number | undefined;
  readonly outcome: "ok" | Reason;
}

/** Resolves when the record is durable; what it rejects with fails the operation. */
export type AuditKek = (act: KekAct) => Promise<void>;

export interface SealerDeps {
  readonly kek: KekCalls;
  /** Part of every context: a value of one environment does not open in another. */
  readonly environment: string;
  readonly audit: AuditKek;
  readonly clock: Clock;
}

/** The heart's sealer, and what KEK rotation needs beside it. Fails also with what the audit fails with. */
export interface EnvelopeSealer extends Sealer {
  /** The same value with its DEK under the newest KEK version; undefined when it is already. Opens nothing. */
  rewrap(sealed: Sealed, actor: Actor, context?: SealContext): Promise<Sealed | undefined>;
}

export function createSealer(deps: SealerDeps): EnvelopeSealer {
  return new Envelopes(deps);
}

class Envelopes implements EnvelopeSealer {
  readonly #deps: SealerDeps;

  constructor(deps: SealerDeps) {
    this.#deps = deps;
  }

  async prepare(context: SealContext, actor: Actor): Promise<PreparedSeal> {
    const { kek, environment } = this.#deps;
    const dek = randomBytes(DEK_BYTES);
    let handedOver = false;
    try {
      const act = { operation: "wrap", context, actor, kekId: kek.id, kekVersion: undefined } as const;
      const wrapped = await this.#audited(act, {
        call: (signal) => kek.wrap(dek, signal),
        version: (result) => result.version,
        wipe: () => undefined,
      });
      handedOver = true;
      return new Prepared(dek, wrapped, kek.id, environment);
    } finally {
      if (!handedOver) dek.fill(0);
    }
  }

  async open(context: SealContext, sealed: Sealed, actor: Actor): Promise<Buffer> {
    const { kek, environment } = this.#deps;
    this.#check(sealed);
    const aad = associatedData(environment, context);
    const { kekId, kekVersion } = sealed;
    return this.#audited<Buffer>(
      { operation: "unwrap", context, actor, kekId, kekVersion },
      {
        call: async (signal) => {
          const dek = await kek.unwrap(wrappedOf(sealed), signal);
          try {
            return decryptPayload(dek, aad, sealed);
          } finally {
            dek.fill(0);
          }
        },
        version: () => kekVersion,
        wipe: (plain) => plain.fill(0),
      },
    );
  }

  async rewrap(sealed: Sealed, actor: Actor, context?: SealContext): Promise<Sealed | undefined> {
    const { kek } = this.#deps;
    this.#check(sealed);
    const { kekId, kekVersion } = sealed;
    const wrapped = await this.#audited(
      { operation: "rewrap", context, actor, kekId, kekVersion },
      {
        call: (signal) => kek.rewrap(wrappedOf(sealed), signal),
        version: (result) => result.version,
        wipe: () => undefined,
      },
    );
    if (wrapped.version === kekVersion) return undefined;
    return { ...sealed, kekVersion: wrapped.version, wrappedDek: wrapped.bytes };
  }

  #check(sealed: Sealed): void {
    if (sealed.format !== SEAL_FORMAT) {
      throw new KeyturnError(
        "SEAL_INVALID",
        `The value was sealed in format ${String(sealed.format)}, which this release does not know.`,
      );
    }
    const configured = this.#deps.kek.id;
    if (sealed.kekId === configured) return;
    throw new KeyturnError(
      "KEK_MISMATCH",
      `The value was sealed under the KEK ${sealed.kekId}; configured is ${configured}.`,
      { metadata: { cause: "kek_not_configured", kek: sealed.kekId, configured } },
    );
  }

  /** Nothing is handed out before its record is durable, and a refusal is recorded too. */
  async #audited<T>(act: Omit<KekAct, "outcome">, { call, version, wipe }: KekWork<T>): Promise<T> {
    const { clock, audit } = this.#deps;
    let asking = true;
    const work = async (signal: AbortSignal): Promise<T> => {
      let result: T;
      try {
        result = await call(signal);
      } catch (error) {
        const fault = faultOf(error);
        // The operation fails in any case, and with its own reason.
        if (!signal.aborted) await audit({ ...act, outcome: fault.reason }).catch(() => undefined);
        throw fault;
      }
      if (signal.aborted) return result;
      asking = false;
      try {
        await audit({ ...act, kekVersion: version(result), outcome: "ok" });
        return result;
      } catch (error) {
        wipe(result);
        throw error;
      }
    };
    const expired = () => {
      if (!asking) return auditTimeout();
      void audit({ ...act, outcome: "KEK_UNAVAILABLE" }).catch(() => undefined);
      return unavailable("timeout", "The KEK did not answer within 5 s.");
    };
    return bounded({ clock, limitMs: KEK_LIMIT_MS, work, expired, late: wipe });
  }
}

interface KekWork<T> {
  readonly call: (signal: AbortSignal) => Promise<T>;
  readonly version: (result: T) => number;
  readonly wipe: (result: T) => void;
}

function wrappedOf(sealed: Sealed): WrappedDek {
  return { version: sealed.kekVersion, bytes: sealed.wrappedDek };
}

/** A foreign error may quote a request, so only its name and code go on. */
function faultOf(error: unknown): KeyturnError {
  if (error instanceof KeyturnError) return error;
  const name = error instanceof Error ? error.name : typeof error;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return unavailable("backend_error", `The KEK failed (${[name, code].filter(Boolean).join(" ")}).`);
}

function unavailable(cause: string, message: string): KeyturnError {
  return new KeyturnError("KEK_UNAVAILABLE", message, { metadata: { cause }, retryAfterMs: 1_000 });
}

function auditTimeout(): KeyturnError {
  return new KeyturnError("STORE_UNAVAILABLE", "The audit trail could not be written within 5 s.", {
    metadata: { cause: "audit" },
    retryAfterMs: 1_000,
  });
}
