import { readdirSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { type Audit, type AuditOptions, createAudit } from "../../src/audit/audit.ts";
import type { AuditQuery } from "../../src/audit/query.ts";
import type { AuditEntry, AuditRecord } from "../../src/audit/record.ts";
import { type OpenSegment, openOnDisk } from "../../src/audit/segment-sink.ts";
import { ManualClock } from "../store/manual-clock.ts";

export function entry(account: string, change: Partial<AuditEntry> = {}): AuditEntry {
  return {
    operation: "kek.unwrap",
    outcome: "ok",
    caller: "reports",
    purpose: "get_token",
    tenant: "tenant-1",
    account,
    kekId: "local:/default",
    kekVersion: 3,
    ...change,
  };
}

/** Closed when the test ends. */
export async function auditIn(
  directory: string,
  clock: ManualClock = new ManualClock(),
  options: Partial<AuditOptions> & { readonly openSegment?: OpenSegment } = {},
): Promise<Audit> {
  const { openSegment = openOnDisk, ...rest } = options;
  const audit = await createAudit({ instance: "one", clock, to: { directory, openSegment }, ...rest });
  onTestFinished(() => audit.close().catch(() => undefined));
  return audit;
}

/** A trail with `count` records in a file for each two of them, closed; its head. */
export async function writtenTrail(directory: string, count: number, segmentBytes = 700) {
  const audit = await auditIn(directory, undefined, { segmentBytes });
  for (let n = 1; n <= count; n += 1) await audit.record(entry(`account-${n}`));
  await audit.close();
  return audit.head();
}

export function segmentsOf(directory: string): readonly string[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(".jsonl"))
    .sort()
    .map((name) => join(directory, name));
}

export async function queried(audit: Audit, filter: AuditQuery = {}): Promise<readonly AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const record of audit.query(filter)) records.push(record);
  return records;
}

/** A disk whose segments take bytes up to `room.bytes` each; a write that needs more is done by half. */
export function smallDisk() {
  const room = { bytes: Number.POSITIVE_INFINITY, code: "ENOSPC", truncates: true };
  const fail = () => Object.assign(new Error(room.code), { code: room.code });
  const openSegment: OpenSegment = async (path) => {
    const file = await openOnDisk(path);
    return {
      ...file,
      async write(position, bytes) {
        const fits = Math.max(0, Math.min(bytes.length, room.bytes - position));
        await file.write(position, bytes.subarray(0, fits));
        if (fits < bytes.length) throw fail();
      },
      async truncate(sizeBytes) {
        if (!room.truncates) throw fail();
        await file.truncate(sizeBytes);
      },
    };
  };
  return { room, openSegment };
}
