import { createHash } from "node:crypto";

/** What is to be written down. Absent members are written as empty. Never a secret. */
export interface AuditEntry {
  /** `kek.unwrap`, `token.open`, or an administrative act: `accounts.delete`. */
  readonly operation: string;
  /** `ok`, or the reason of the failure. */
  readonly outcome: string;
  readonly caller: string;
  /** An address, or `uds`. */
  readonly peer?: string;
  readonly purpose?: string;
  readonly tenant?: string;
  readonly account?: string;
  readonly kekId?: string;
  readonly kekVersion?: number;
  /** How many alike this record stands for; 1 when absent. */
  readonly count?: number;
  /** Anything else an auditor asks for. */
  readonly detail?: Readonly<Record<string, string>>;
}

export interface AuditRecord {
  readonly instance: string;
  /** From 1, without gaps. */
  readonly seq: number;
  /** Hash of the record before; `GENESIS` for the first. */
  readonly prev: string;
  readonly atMs: number;
  readonly operation: string;
  readonly outcome: string;
  readonly caller: string;
  readonly peer: string;
  readonly purpose: string;
  readonly tenant: string;
  readonly account: string;
  readonly kekId: string;
  /** 0: no KEK was involved. */
  readonly kekVersion: number;
  readonly count: number;
  readonly detail: Readonly<Record<string, string>>;
}

/** A place in the chain: the newest record up to there and its hash. */
export interface ChainHead {
  /** 0: nothing has been recorded. */
  readonly seq: number;
  readonly hash: string;
}

export const GENESIS = "0".repeat(64);
export const EMPTY_CHAIN: ChainHead = { seq: 0, hash: GENESIS };

const FORMAT = 1;
/** Longest text of one member; an id has 128. */
const MAX_TEXT = 1_024;
const MAX_DETAILS = 32;
// The hash covers every byte before it, so it is always the last member.
const HASHED = /^(.*),"hash":"([0-9a-f]{64})"\}$/s;

/** One line of the log, ASCII and without its newline, and the chain after it. */
export function formatRecord(
  entry: AuditEntry,
  before: ChainHead,
  instance: string,
  atMs: number,
): { readonly line: string; readonly head: ChainHead } {
  const seq = before.seq + 1;
  const plain = {
    format: FORMAT,
    instance,
    seq,
    prev: before.hash,
    time: new Date(atMs).toISOString(),
    tenant: clip(entry.tenant),
    account: clip(entry.account),
    operation: clip(entry.operation),
    purpose: clip(entry.purpose),
    kek_id: clip(entry.kekId),
    kek_version: entry.kekVersion ?? 0,
    caller: clip(entry.caller),
    peer: clip(entry.peer),
    outcome: clip(entry.outcome),
    count: entry.count ?? 1,
    detail: Object.fromEntries(
      Object.entries(entry.detail ?? {})
        .slice(0, MAX_DETAILS)
        .map(([name, value]) => [clip(name), clip(value)]),
    ),
  };
  const open = ascii(JSON.stringify(plain)).slice(0, -1);
  const hash = hashOf(open);
  return { line: `${open},"hash":"${hash}"}`, head: { seq, hash } };
}

/** A record with the chain's head after it; undefined when the line is no record or one byte of it was changed. */
export function parseRecord(
  line: string,
): { readonly record: AuditRecord; readonly head: ChainHead } | undefined {
  const [, open, hash] = HASHED.exec(line) ?? [];
  if (open === undefined || hash === undefined || hashOf(open) !== hash) return undefined;
  const wire = parseWire(`${open}}`);
  if (wire === undefined) return undefined;
  const { format: _, time, kek_id: kekId, kek_version: kekVersion, ...same } = wire;
  return {
    record: { ...same, atMs: Date.parse(time), kekId, kekVersion },
    head: { seq: wire.seq, hash },
  };
}

type Wire = Omit<AuditRecord, "atMs" | "kekId" | "kekVersion"> & {
  readonly format: number;
  readonly time: string;
  readonly kek_id: string;
  readonly kek_version: number;
};

/** A forger can compute the hash as well as we, so the members that the chain goes by are looked at. */
function parseWire(text: string): Wire | undefined {
  try {
    const wire: Wire = JSON.parse(text);
    const { format, seq, prev, instance, time } = wire;
    const sound = format === FORMAT && Number.isSafeInteger(seq) && seq > 0 && typeof prev === "string";
    return sound && typeof instance === "string" && !Number.isNaN(Date.parse(time)) ? wire : undefined;
  } catch {
    return undefined;
  }
}

/** The same JSON in ASCII, so that no two byte strings read as the same line. */
function ascii(json: string): string {
  return json.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function clip(text = ""): string {
  return text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT - 1)}…`;
}
