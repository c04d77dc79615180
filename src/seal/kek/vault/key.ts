import { invalid } from "../../../errors.ts";
import type { KekStatus } from "../../kek.ts";
import { type Body, isObject } from "./client.ts";
import { vaultFault } from "./fault.ts";

/** A Transit key's metadata, as far as it concerns us. */
export interface TransitKey {
  readonly newest: number;
  /** Older versions do not decrypt: they are retired. */
  readonly minDecryption: number;
  /** Zero: the newest alone. */
  readonly minEncryption: number;
  /** Older ones are gone for ever. */
  readonly minAvailable: number;
  /** When each version that still decrypts was made. */
  readonly createdAtMs: ReadonlyMap<number, number>;
}

const SYMMETRIC = /^(aes(128|256)-gcm96|x?chacha20-poly1305)$/;

/** KEK_UNAVAILABLE: `bad_answer`, or `key_unfit` for a key that cannot wrap data keys. */
export function keyOf({ data }: Body): TransitKey {
  if (!isObject(data) || !isObject(data.keys)) throw vaultFault("bad_answer", "says nothing about the key");
  if (typeof data.type !== "string" || !SYMMETRIC.test(data.type) || data.derived === true) {
    throw vaultFault("key_unfit", "has a key of another kind there: needed is aes256-gcm96, not derived");
  }
  const made = Object.entries(data.keys).map(
    ([version, at]) => [Number(version), wholeOf(at) * 1_000] as const,
  );
  return {
    newest: wholeOf(data.latest_version),
    minDecryption: Math.max(1, wholeOf(data.min_decryption_version)),
    minEncryption: wholeOf(data.min_encryption_version),
    minAvailable: Math.max(1, wholeOf(data.min_available_version)),
    createdAtMs: new Map(made),
  };
}

function wholeOf(value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw vaultFault("bad_answer", "describes the key in a way that was not expected");
}

export function statusOf({ newest, minDecryption, minAvailable, createdAtMs }: TransitKey): KekStatus {
  const numbers = Array.from({ length: newest - minAvailable + 1 }, (_, at) => minAvailable + at);
  return {
    newest,
    versions: numbers.map((version) => ({
      version,
      createdAtMs: createdAtMs.get(version),
      state: version === newest ? "active" : version < minDecryption ? "retired" : "retiring",
    })),
  };
}

/** The key's configuration after which `version` and all before it are refused; undefined when they are already. */
export function retiring(version: number, key: TransitKey): Body | undefined {
  if (version < 1 || version > key.newest) throw invalid("version", `the key has no version ${version}`);
  if (version === key.newest) {
    throw invalid("version", "the active version cannot be retired; rotate and rewrap first");
  }
  if (version < key.minDecryption) return undefined;
  const next = version + 1;
  // Vault does not let one fall behind the other.
  const isBehind = key.minEncryption !== 0 && key.minEncryption < next;
  return { min_decryption_version: next, ...(isBehind ? { min_encryption_version: next } : {}) };
}
