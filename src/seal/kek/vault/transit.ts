import type { Clock } from "../../../clock.ts";
import { invalid, KeyturnError } from "../../../errors.ts";
import type { Secret } from "../../../tokens/secret.ts";
import type { Report } from "../../../tokens/world.ts";
import type { Kek, KekStatus, WrappedDek } from "../../kek.ts";
import { Batcher, type Outcome } from "./batcher.ts";
import { type Body, createVaultClient, isObject, type VaultClient } from "./client.ts";
import { isVaultFault, vaultFault } from "./fault.ts";
import { keyOf, retiring, statusOf, type TransitKey } from "./key.ts";
import { loginOf, type VaultAuth } from "./login.ts";
import { Session } from "./session.ts";

// Vault limits the strings of one JSON body; so many items are safe.
const MAX_ITEMS = 150;
const MAX_REQUESTS = 4;

export interface TransitOptions {
  /** `https://vault.example:8200`. */
  readonly address: string;
  readonly namespace: string | undefined;
  /** PEM of who may sign Vault's certificate. Undefined: the system's own. */
  readonly ca: string | undefined;
  /** Where the Transit engine is mounted: `transit`. */
  readonly mount: string;
  /** The key's name: `keyturn`. */
  readonly key: string;
  readonly auth: VaultAuth;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly report: Report;
}

/** A KEK that never leaves Vault (or OpenBao). Nothing is asked before the first call. */
export interface TransitKek extends Kek {
  /** Ends renewal and connections. */
  close(): void;
}

/** KEK_UNAVAILABLE of its calls has one of the causes in fault.ts. */
export function openTransitKek(options: TransitOptions): TransitKek {
  return new Transit(options);
}

class Transit implements TransitKek {
  readonly id: string;
  readonly #mount: string;
  readonly #key: string;
  readonly #client: VaultClient;
  readonly #session: Session;
  readonly #wraps = this.#batcher("encrypt", (dek: Uint8Array) => ({ plaintext: base64Of(dek) }), wrappedIn);
  readonly #unwraps = this.#batcher("decrypt", ciphertextOf, dekIn);
  readonly #rewraps = this.#batcher("rewrap", ciphertextOf, wrappedIn);

  constructor({ address, namespace, ca, mount, key, auth, clock, random, report }: TransitOptions) {
    this.id = `vault-transit:/${[namespace, mount, key].filter((part) => part !== undefined).join("/")}`;
    this.#mount = mount;
    this.#key = key;
    this.#client = createVaultClient({ address, namespace, ca }, clock);
    const logIn = loginOf(auth, this.#client);
    this.#session = new Session({ client: this.#client, logIn, clock, random, report });
  }

  wrap(dek: Uint8Array, signal: AbortSignal): Promise<WrappedDek> {
    return this.#wraps.ask(dek, signal);
  }

  async unwrap(wrapped: WrappedDek, signal: AbortSignal): Promise<Buffer> {
    this.#checkVersion(wrapped);
    return this.#unwraps.ask(wrapped, signal);
  }

  async rewrap(wrapped: WrappedDek, signal: AbortSignal): Promise<WrappedDek> {
    this.#checkVersion(wrapped);
    return this.#rewraps.ask(wrapped, signal);
  }

  async versions(): Promise<KekStatus> {
    return statusOf(await this.#metadata());
  }

  async rotate(authority?: Secret): Promise<number> {
    await this.#administer("rotate", {}, authority);
    const { newest } = await this.#metadata();
    await this.#administer("config", { min_encryption_version: newest }, authority);
    return newest;
  }

  async retire(version: number, authority?: Secret): Promise<void> {
    const change = retiring(version, await this.#metadata());
    if (change !== undefined) await this.#administer("config", change, authority);
  }

  close(): void {
    this.#session.close();
    this.#client.close();
  }

  /** Transit takes version 0 for version 1, which would open what names a version that never was. */
  #checkVersion({ version }: WrappedDek): void {
    if (version < 1) throw this.#versionUnknown();
  }

  #versionUnknown(): KeyturnError {
    return mismatch("version_unknown", `The KEK ${this.id} has no such version.`);
  }

  /** The sidecar's own policy lets it use the key, never change it. */
  async #administer(what: "rotate" | "config", data: Body, authority: Secret | undefined): Promise<void> {
    if (authority === undefined) {
      throw invalid("authority", "a Vault token whose policy lets it rotate and configure this key");
    }
    try {
      const path = `${this.#mount}/keys/${this.#key}/${what}`;
      strict(await this.#client.write(path, data, { token: authority, repeatable: false }));
    } catch (error) {
      if (!isVaultFault(error, "denied")) throw error;
      throw invalid("authority", "Vault denies this token: it is not valid, or its policy does not let it");
    }
  }

  #metadata(): Promise<TransitKey> {
    const path = `${this.#mount}/keys/${this.#key}`;
    return this.#withToken(async (token) => keyOf(strict(await this.#client.read(path, { token }))));
  }

  #batcher<I, O>(
    operation: "encrypt" | "decrypt" | "rewrap",
    itemOf: (input: I) => Body,
    read: (result: Body) => O,
  ): Batcher<I, O> {
    const outcomeOf = (result: unknown): Outcome<O> => {
      try {
        return { value: read(this.#itemOf(result)) };
      } catch (error) {
        return { error };
      }
    };
    return new Batcher<I, O>({
      maxItems: MAX_ITEMS,
      maxRequests: MAX_REQUESTS,
      late: (value) => {
        if (Buffer.isBuffer(value)) value.fill(0);
      },
      send: async (inputs, signal) => {
        const path = `${this.#mount}/${operation}/${this.#key}`;
        const { data } = await this.#withToken(async (token) =>
          strict(await this.#client.write(path, { batch_input: inputs.map(itemOf) }, { token, signal })),
        );
        const results = isObject(data) ? data.batch_results : undefined;
        if (!Array.isArray(results) || results.length !== inputs.length) {
          throw vaultFault("bad_answer", "answered with another number of results");
        }
        return results.map(outcomeOf);
      },
    });
  }

  /** A denied token is replaced once. */
  async #withToken<T>(ask: (token: Secret) => Promise<T>): Promise<T> {
    const token = await this.#session.token();
    try {
      return await ask(token);
    } catch (error) {
      if (!isVaultFault(error, "denied")) throw error;
      const other = await this.#session.instead(token);
      if (other === undefined) throw await this.#whyDenied(error, token);
      return ask(other);
    }
  }

  /** Who may only use a key that is not there is denied, as if it were to be made. */
  async #whyDenied(denied: KeyturnError, token: Secret): Promise<KeyturnError> {
    try {
      await this.#client.read(`${this.#mount}/keys/${this.#key}`, { token });
      return denied;
    } catch (error) {
      return isVaultFault(error, "key_missing") ? error : denied;
    }
  }

  #itemOf(result: unknown): Body {
    if (!isObject(result)) throw vaultFault("bad_answer", "answered with something that is no result");
    const { error } = result;
    if (typeof error === "string" && error !== "") throw this.#faultOfItem(error);
    return result;
  }

  /** Vault's words are looked at and not passed on. */
  #faultOfItem(text: string): KeyturnError {
    if (text.includes("too old")) {
      return mismatch("version_retired", `That version of the KEK ${this.id} is retired.`);
    }
    if (text.includes("too new")) return this.#versionUnknown();
    if (/invalid ciphertext|authentication failed|decode/.test(text)) {
      return new KeyturnError("SEAL_INVALID", "The wrapped data key was altered, or wrapped by another key.");
    }
    return vaultFault("refused", "refuses the data key");
  }
}

/** An answer with a warning did something else than what was asked: an unknown parameter is passed over like that. */
function strict(body: Body): Body {
  const { warnings } = body;
  if (Array.isArray(warnings) && warnings.length > 0)
    throw vaultFault("bad_answer", "answered with a warning");
  return body;
}

function base64Of(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
}

const CIPHERTEXT = /^vault:v([1-9]\d{0,8}):([A-Za-z0-9+/]+=*)$/;

function ciphertextOf({ version, bytes }: WrappedDek): Body {
  return { ciphertext: `vault:v${version}:${base64Of(bytes)}` };
}

function wrappedIn({ ciphertext }: Body): WrappedDek {
  const [, version, bytes] = typeof ciphertext === "string" ? (CIPHERTEXT.exec(ciphertext) ?? []) : [];
  if (version === undefined || bytes === undefined) {
    throw vaultFault("bad_answer", "answered without a ciphertext");
  }
  return { version: Number(version), bytes: Buffer.from(bytes, "base64") };
}

/** The string cannot be wiped: it lives no longer than this call. */
function dekIn({ plaintext }: Body): Buffer {
  if (typeof plaintext !== "string") throw vaultFault("bad_answer", "answered without a plaintext");
  return Buffer.from(plaintext, "base64");
}

function mismatch(cause: string, message: string): KeyturnError {
  return new KeyturnError("KEK_MISMATCH", message, { metadata: { cause } });
}
