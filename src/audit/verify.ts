import { type AuditRecord, type ChainHead, EMPTY_CHAIN, parseRecord } from "./record.ts";
import { linesOf, listSegments, type Segment } from "./segments.ts";

export type AuditFaultKind =
  /** A line that is no record, or was changed. */
  | "altered"
  /** Records are missing, doubled or in another order. */
  | "out_of_order"
  /** A record does not follow from the one before it. */
  | "chain_broken"
  /** A record of another instance. */
  | "foreign"
  /** The oldest records are gone and no retention record says so. */
  | "start_missing"
  /** The newest records are gone: the store remembers later ones. */
  | "end_missing"
  /** The whole chain is another one: the store remembers another hash for this record. */
  | "rewritten";

export interface AuditFaultFound {
  readonly kind: AuditFaultKind;
  /** Segment's file name; empty when no file is to blame. */
  readonly segment: string;
  /** From 1; 0 when no line is to blame. */
  readonly line: number;
  readonly message: string;
}

export interface AuditProof {
  /** True when not one fault was found. */
  readonly intact: boolean;
  readonly records: number;
  readonly firstSeq: number;
  readonly head: ChainHead;
  /** The last line has no end: a crash, or a write under way. Nobody was told that it is written, so no fault. */
  readonly unfinished: boolean;
  /** The first ones, at most `MAX_FAULTS`. */
  readonly faults: readonly AuditFaultFound[];
}

export const MAX_FAULTS = 100;

/**
 * Reads every segment once and proves that nothing was changed, removed or put elsewhere. `expected` is the head that
 * the store remembers: without it a cut end, or a chain forged from the start, cannot be told from a true one.
 */
export async function verifyAudit(directory: string, expected?: ChainHead): Promise<AuditProof> {
  const proof = new Proof(expected);
  for (const segment of await listSegments(directory)) {
    proof.enter(segment);
    for await (const { text, ended } of linesOf(segment.path)) proof.line(text, ended);
  }
  return proof.end();
}

class Proof {
  readonly #expected: ChainHead | undefined;
  readonly #faults: AuditFaultFound[] = [];
  #segment = "";
  #line = 0;
  #records = 0;
  #first: AuditRecord | undefined;
  #head = EMPTY_CHAIN;
  #dropped = EMPTY_CHAIN;
  /** After a line that cannot be read, what follows is taken as it says. */
  #lost = false;
  #unfinished = false;

  constructor(expected: ChainHead | undefined) {
    this.#expected = expected;
  }

  enter(segment: Segment): void {
    // Only the newest segment is still written to.
    if (this.#unfinished) this.#fault("altered", "the segment's last line has no end");
    this.#unfinished = false;
    this.#segment = segment.name;
    this.#line = 0;
    const next = this.#head.seq + 1;
    if (this.#records === 0 || this.#lost || segment.firstSeq === next) return;
    this.#fault("out_of_order", `the segment should begin with record ${next}`);
  }

  line(text: string, ended: boolean): void {
    this.#line += 1;
    this.#unfinished = !ended;
    if (!ended) return;
    const read = parseRecord(text);
    if (read === undefined) {
      this.#lost = true;
      this.#fault("altered", `not the record that was written after record ${this.#head.seq}`);
      return;
    }
    this.#follow(read.record);
    this.#head = read.head;
    this.#lost = false;
    this.#records += 1;
    const { seq, hash } = read.head;
    if (this.#expected?.seq === seq && this.#expected.hash !== hash) {
      this.#fault("rewritten", `the store remembers another hash of record ${seq}`);
    }
  }

  end(): AuditProof {
    this.#segment = "";
    this.#line = 0;
    const first = this.#first;
    if (first !== undefined && first.seq > 1) this.#start(first);
    if (this.#expected !== undefined && this.#expected.seq > this.#head.seq) {
      this.#fault(
        "end_missing",
        `the store remembers record ${this.#expected.seq}; the last is ${this.#head.seq}`,
      );
    }
    return {
      intact: this.#faults.length === 0,
      records: this.#records,
      firstSeq: first?.seq ?? 0,
      head: this.#head,
      unfinished: this.#unfinished,
      faults: this.#faults,
    };
  }

  #follow(record: AuditRecord): void {
    const { seq, hash } = this.#head;
    if (this.#first === undefined) {
      this.#first = record;
      if (record.seq === 1 && record.prev !== hash)
        this.#fault("chain_broken", "the first record follows another");
    } else if (record.instance !== this.#first.instance) {
      this.#fault("foreign", `record ${record.seq} is of the instance ${record.instance}`);
    } else if (this.#lost && record.seq === seq + 2) {
      // The unreadable line stood in for exactly one record.
    } else if (record.seq !== seq + 1) {
      this.#fault("out_of_order", `record ${record.seq} stands where ${seq + 1} should`);
    } else if (record.prev !== hash) {
      this.#fault("chain_broken", `record ${record.seq} does not follow from the one before it`);
    }
    if (record.operation === "audit.retention") this.#retention(record);
  }

  #retention({ detail }: AuditRecord): void {
    const seq = Number(detail?.through_seq);
    if (Number.isSafeInteger(seq)) this.#dropped = { seq, hash: detail.through_hash ?? "" };
  }

  #start(first: AuditRecord): void {
    const { seq, hash } = this.#dropped;
    // A retention that was interrupted has dropped less than its record says.
    if (seq > first.seq - 1 || (seq === first.seq - 1 && hash === first.prev)) return;
    this.#fault("start_missing", `the log begins with record ${first.seq} and no retention record says why`);
  }

  #fault(kind: AuditFaultKind, message: string): void {
    if (this.#faults.length >= MAX_FAULTS) return;
    this.#faults.push({ kind, segment: this.#segment, line: this.#line, message });
  }
}
