import { createSecretKey, type KeyObject } from "node:crypto";
import { invalid } from "../../errors.ts";
import type { KekVersionState } from "../kek.ts";

export const KEY_BYTES = 32;

export interface KeyringVersion {
  readonly version: number;
  /** The bytes stay outside the JavaScript heap. */
  readonly key: KeyObject;
  readonly createdAtMs: number;
  readonly state: KekVersionState;
}

/** A local KEK: its versions oldest first, the last of which is the active one. */
export interface Keyring {
  readonly id: string;
  readonly versions: readonly KeyringVersion[];
}

const FORMAT = 1;
const ID = /^local:\/[A-Za-z0-9._-]{1,64}$/;
// Node's decoder passes over whatever is not base64, so the text is looked at first.
const KEY_TEXT = /^[A-Za-z0-9+/]{43}=$/;
const STATES: readonly unknown[] = ["active", "retiring", "retired"] satisfies KekVersionState[];

/** Reads the keyring's JSON. INVALID_REQUEST says what is wrong and never quotes the text. */
export function parseKeyring(text: string): Keyring {
  const ring = jsonObject(text);
  if (ring.format !== FORMAT) throw faulty(`format must be ${FORMAT}`);
  const { id, versions } = ring;
  if (typeof id !== "string" || !ID.test(id)) throw faulty("id must be local:/ and a short name");
  if (!Array.isArray(versions) || versions.length === 0) throw faulty("versions must be a list, not empty");
  const read = versions.map((one: unknown, at) => parseVersion(one, at));
  read.forEach((one, at) => {
    const before = read[at - 1];
    if (before !== undefined && before.version >= one.version) throw faulty("versions must be in order");
    const isLast = at === read.length - 1;
    if (isLast !== (one.state === "active")) throw faulty("the last version, and no other, must be active");
  });
  return { id, versions: read };
}

/** The keyring as JSON, in one Buffer that the caller fills with zero. */
export function formatKeyring({ id, versions }: Keyring): Buffer {
  const plain = versions.map(({ version, key, createdAtMs, state }) => {
    const bytes = key.export();
    try {
      return {
        version,
        key: bytes.toString("base64"),
        created_at: new Date(createdAtMs).toISOString(),
        state,
      };
    } finally {
      bytes.fill(0);
    }
  });
  return Buffer.from(`${JSON.stringify({ format: FORMAT, id, versions: plain }, undefined, 2)}\n`);
}

function parseVersion(value: unknown, at: number): KeyringVersion {
  const where = `versions[${at}]`;
  if (!isObject(value)) throw faulty(`${where} must be an object`);
  const { version, key, created_at: createdAt, state } = value;
  if (typeof version !== "number" || !Number.isSafeInteger(version) || version < 1) {
    throw faulty(`${where}.version must be a whole number from 1`);
  }
  const createdAtMs = typeof createdAt === "string" ? Date.parse(createdAt) : Number.NaN;
  if (Number.isNaN(createdAtMs)) throw faulty(`${where}.created_at must be an RFC 3339 time`);
  if (!isState(state)) throw faulty(`${where}.state must be active, retiring or retired`);
  if (typeof key !== "string" || !KEY_TEXT.test(key)) {
    throw faulty(`${where}.key must be ${KEY_BYTES} bytes in base64`);
  }
  const bytes = Buffer.from(key, "base64");
  try {
    return { version, key: createSecretKey(bytes), createdAtMs, state };
  } finally {
    bytes.fill(0);
  }
}

function jsonObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's own message quotes the text, and the text holds keys.
    throw faulty("must be JSON");
  }
  if (!isObject(value)) throw faulty("must be a JSON object");
  return value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isState(value: unknown): value is KekVersionState {
  return STATES.includes(value);
}

function faulty(what: string) {
  return invalid("keyring", what);
}
