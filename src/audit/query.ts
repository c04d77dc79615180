import { type AuditRecord, parseRecord } from "./record.ts";
import { linesOf, listSegments } from "./segments.ts";

/** Members that are set must all match. */
export interface AuditQuery {
  /** Inclusive. */
  readonly fromMs?: number | undefined;
  /** Exclusive. */
  readonly untilMs?: number | undefined;
  /** Only records after this number. */
  readonly afterSeq?: number | undefined;
  readonly tenant?: string | undefined;
  readonly account?: string | undefined;
  readonly caller?: string | undefined;
  readonly operation?: string | undefined;
  readonly outcome?: string | undefined;
  /** Ends after so many records. */
  readonly limit?: number | undefined;
}

/** Matching records up to `throughSeq`, oldest first. Lines that are no records are left to `verifyAudit`. */
export async function* queryAudit(
  directory: string,
  throughSeq: number,
  filter: AuditQuery,
): AsyncGenerator<AuditRecord> {
  const segments = await listSegments(directory);
  let left = filter.limit ?? Number.POSITIVE_INFINITY;
  for (const [at, segment] of segments.entries()) {
    const next = segments[at + 1];
    if (next !== undefined && next.firstSeq <= (filter.afterSeq ?? 0) + 1) continue;
    for await (const { text, ended } of linesOf(segment.path)) {
      const record = ended ? parseRecord(text)?.record : undefined;
      if (record === undefined) continue;
      if (left <= 0 || record.seq > throughSeq) return;
      if (!matches(record, filter)) continue;
      left -= 1;
      yield record;
    }
  }
}

function matches(record: AuditRecord, filter: AuditQuery): boolean {
  const { fromMs, untilMs, afterSeq, tenant, account, caller, operation, outcome } = filter;
  const same = (wanted: string | undefined, is: string) => wanted === undefined || wanted === is;
  return (
    record.seq > (afterSeq ?? 0) &&
    record.atMs >= (fromMs ?? Number.NEGATIVE_INFINITY) &&
    record.atMs < (untilMs ?? Number.POSITIVE_INFINITY) &&
    same(tenant, record.tenant) &&
    same(account, record.account) &&
    same(caller, record.caller) &&
    same(operation, record.operation) &&
    same(outcome, record.outcome)
  );
}
