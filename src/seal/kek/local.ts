import { generateKeySync } from "node:crypto";
import type { Clock } from "../../clock.ts";
import { invalid, KeyturnError } from "../../errors.ts";
import { Secret } from "../../tokens/secret.ts";
import type { Kek, KekStatus, WrappedDek } from "../kek.ts";
import { KEY_BYTES, type Keyring, type KeyringVersion, parseKeyring } from "./keyring.ts";
import { createKeyring, readKeyring, replaceKeyring } from "./keyring-file.ts";
import { decryptKey, encryptKey } from "./wrap.ts";

/** For development and single-node use: whoever reads the keyring can read everything sealed under it. */
export const LOCAL_KEK_ID = "local:/default";
export const KEYRING_VARIABLE = "KEYTURN_KEYRING";

/** Where the keyring is: a file, made on demand with `create`, or JSON already in memory, which cannot rotate. */
export type KeyringSource =
  | { readonly file: string; readonly create: boolean }
  | { readonly keyring: Secret };

/** The keyring in `KEYTURN_KEYRING`, which is removed from `env`: children and crash dumps do not inherit it. */
export function takeKeyring(env: NodeJS.ProcessEnv): Secret | undefined {
  const text = env[KEYRING_VARIABLE];
  delete env[KEYRING_VARIABLE];
  return text === undefined || text === "" ? undefined : new Secret(text);
}

/**
 * INVALID_REQUEST for a keyring that is missing, malformed or readable by others; KEK_UNAVAILABLE when it cannot be
 * read or written. Set `create` only where nothing is sealed yet: a new keyring opens nothing old.
 */
export async function openLocalKek(source: KeyringSource, clock: Clock): Promise<Kek> {
  if ("keyring" in source) {
    return new LocalKek({ clock, file: undefined, ring: parseKeyring(source.keyring.reveal()) });
  }
  const { file, create } = source;
  const found = await readKeyring(file);
  if (found !== undefined) return new LocalKek({ clock, file, ring: found });
  if (!create) throw invalid("keyring", `${file} does not exist`);
  const made: Keyring = { id: LOCAL_KEK_ID, versions: [freshVersion(1, clock)] };
  const ring = (await createKeyring(file, made)) ? made : await readKeyring(file);
  if (ring === undefined) throw invalid("keyring", `${file} does not exist any more`);
  return new LocalKek({ clock, file, ring });
}

interface LocalKekDeps {
  readonly clock: Clock;
  /** Undefined: nowhere to write a rotated keyring. */
  readonly file: string | undefined;
  readonly ring: Keyring;
}

class LocalKek implements Kek {
  readonly id: string;
  readonly #clock: Clock;
  readonly #file: string | undefined;
  #ring: Keyring;
  #changing: Promise<unknown> = Promise.resolve();

  constructor({ clock, file, ring }: LocalKekDeps) {
    this.id = ring.id;
    this.#clock = clock;
    this.#file = file;
    this.#ring = ring;
  }

  async wrap(dek: Uint8Array): Promise<WrappedDek> {
    const { version, key } = newestOf(this.#ring);
    return { version, bytes: encryptKey(key, dek) };
  }

  async unwrap(wrapped: WrappedDek): Promise<Buffer> {
    return decryptKey((await this.#usable(wrapped.version)).key, wrapped.bytes);
  }

  async rewrap(wrapped: WrappedDek): Promise<WrappedDek> {
    const dek = await this.unwrap(wrapped);
    try {
      if (wrapped.version === newestOf(this.#ring).version) return wrapped;
      return await this.wrap(dek);
    } finally {
      dek.fill(0);
    }
  }

  async versions(): Promise<KekStatus> {
    const file = this.#file;
    // Another process on this keyring may have rotated it; what is wrong with it now is told when it is needed.
    if (file !== undefined) await this.#inTurn(() => this.#reload(file)).catch(() => undefined);
    const versions = this.#ring.versions.map(({ version, createdAtMs, state }) => ({
      version,
      createdAtMs,
      state,
    }));
    return { newest: newestOf(this.#ring).version, versions };
  }

  async rotate(): Promise<number> {
    const changed = await this.#change((ring) => {
      const older = ring.versions.map((one) =>
        one.state === "active" ? { ...one, state: "retiring" as const } : one,
      );
      return { ...ring, versions: [...older, freshVersion(newestOf(ring).version + 1, this.#clock)] };
    });
    return newestOf(changed).version;
  }

  async retire(version: number): Promise<void> {
    await this.#change((ring) => {
      const known = ring.versions.some((one) => one.version === version);
      if (!known) throw invalid("version", `the keyring has no version ${version}`);
      if (version >= newestOf(ring).version) {
        throw invalid("version", "the active version cannot be retired; rotate and rewrap first");
      }
      const versions = ring.versions.map((one) =>
        one.version <= version ? { ...one, state: "retired" as const } : one,
      );
      return { ...ring, versions };
    });
  }

  /** One change at a time, on what the file holds now, and on the disk before it counts. */
  #change(next: (ring: Keyring) => Keyring): Promise<Keyring> {
    const work = async () => {
      const file = this.#file;
      if (file === undefined) {
        throw invalid(
          "keyring",
          `the keyring came from ${KEYRING_VARIABLE} and cannot be changed here; use a keyring file`,
        );
      }
      await this.#reload(file);
      const ring = next(this.#ring);
      await replaceKeyring(file, ring);
      this.#ring = ring;
      return ring;
    };
    return this.#inTurn(work);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#changing.then(work);
    this.#changing = done.catch(() => undefined);
    return done;
  }

  async #reload(file: string): Promise<void> {
    const ring = await readKeyring(file);
    if (ring !== undefined && continues(ring, this.#ring)) {
      this.#ring = ring;
      return;
    }
    throw new KeyturnError("KEK_UNAVAILABLE", `The keyring ${file} is gone or has become another one.`, {
      metadata: { cause: "keyring_replaced" },
    });
  }

  async #usable(version: number): Promise<KeyringVersion> {
    const known = () => this.#ring.versions.find((one) => one.version === version);
    // Another process on this keyring may have rotated it.
    const file = this.#file;
    if (known() === undefined && file !== undefined) await this.#inTurn(() => this.#reload(file));
    const found = known();
    if (found === undefined) {
      throw mismatch("version_unknown", `The keyring ${this.id} has no version ${version}.`);
    }
    if (found.state === "retired") {
      throw mismatch("version_retired", `Version ${version} of the keyring ${this.id} is retired.`);
    }
    return found;
  }
}

function newestOf(ring: Keyring): KeyringVersion {
  const newest = ring.versions.at(-1);
  if (newest === undefined) throw invalid("keyring", "versions must be a list, not empty");
  return newest;
}

/** True when `ring` still holds every key of `before`. */
function continues(ring: Keyring, before: Keyring): boolean {
  const keys = new Map(ring.versions.map((one) => [one.version, one.key]));
  return (
    ring.id === before.id && before.versions.every((one) => keys.get(one.version)?.equals(one.key) === true)
  );
}

function freshVersion(version: number, clock: Clock): KeyringVersion {
  const key = generateKeySync("aes", { length: KEY_BYTES * 8 });
  return { version, key, createdAtMs: clock.now(), state: "active" };
}

function mismatch(cause: string, message: string): KeyturnError {
  return new KeyturnError("KEK_MISMATCH", message, { metadata: { cause } });
}
