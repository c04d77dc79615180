import { create } from "@bufbuild/protobuf";
import {
  AuditService,
  QueryAuditResponseSchema,
  VerifyAuditResponseSchema,
} from "../../gen/keyturn/v1/audit_service_pb.js";
import { type Handlers, stream, unary } from "../call.ts";
import { msOf, timestamp } from "../wire.ts";

/** One record of the trail. */
export interface ShownAudit {
  readonly instance: string;
  readonly seq: number;
  readonly atMs: number;
  readonly tenant: string;
  readonly account: string;
  readonly operation: string;
  readonly purpose: string;
  readonly kekId: string;
  readonly kekVersion: number;
  readonly caller: string;
  readonly outcome: string;
  readonly count: number;
  readonly detail: Readonly<Record<string, string>>;
}

export interface AuditServiceDeps {
  readonly records: () => AsyncIterable<ShownAudit>;
  readonly verify: () => Promise<{ readonly records: number; readonly faults: readonly string[] }>;
}

/** This sidecar's audit trail. */
export function auditHandlers(deps: AuditServiceDeps): Handlers {
  return {
    queryAudit: stream(AuditService.method.queryAudit, async (request, _call, send) => {
      const fromMs = msOf("start_time", request.startTime) ?? 0;
      const untilMs = msOf("end_time", request.endTime) ?? Number.POSITIVE_INFINITY;
      const same = (wanted: string, value: string) => wanted === "" || wanted === value;
      for await (const record of deps.records()) {
        const inTime = record.atMs >= fromMs && record.atMs < untilMs;
        const wanted =
          same(request.accountId, record.account) &&
          same(request.operation, record.operation) &&
          same(request.caller, record.caller);
        if (!inTime || !wanted) continue;
        const { seq, atMs, account, count, ...rest } = record;
        const message = {
          ...rest,
          seq: BigInt(seq),
          time: timestamp(atMs),
          accountId: account,
          count: BigInt(count),
        };
        await send(create(QueryAuditResponseSchema, { record: message }));
      }
    }),
    verifyAudit: unary(AuditService.method.verifyAudit, async () => {
      const { records, faults } = await deps.verify();
      return create(VerifyAuditResponseSchema, {
        intact: faults.length === 0,
        records: BigInt(records),
        faults: [...faults],
      });
    }),
  };
}
