import { create } from "@bufbuild/protobuf";
import { invalid } from "../../errors.ts";
import {
  AccountService,
  type BulkRefreshAccountsRequest,
  BulkRefreshAccountsResponseSchema,
  BulkRefreshOutcome,
} from "../../gen/keyturn/v1/account_service_pb.js";
import type { BulkCaller, BulkProgress, BulkRefresh } from "../../tokens/bulk-refresh.ts";
import type { BulkSelection } from "../../tokens/records.ts";
import { type Handler, type StreamCall, stream } from "../call.ts";

/** Many accounts refreshed behind everybody else, a result for each of their tokens. */
export function bulkRefreshAccounts(bulk: BulkRefresh): Handler {
  return stream(AccountService.method.bulkRefreshAccounts, async (request, call, send) => {
    for await (const progress of begun(bulk, request, callerOf(call))) {
      note(call, progress);
      await send(message(progress));
    }
  });
}

function begun(bulk: BulkRefresh, request: BulkRefreshAccountsRequest, caller: BulkCaller) {
  const { resumeCursor, dryRun, revokePrevious } = request;
  const selection = selectionOf(request);
  const isOpen = selection === undefined;
  if (resumeCursor !== "") {
    if (!isOpen || dryRun || revokePrevious)
      throw invalid("resume_cursor", "alone: what it goes on with was said when it began");
    return bulk.resume(resumeCursor, caller);
  }
  if (isOpen) throw invalid("provider", "at least one of provider, client, tenant and labels");
  return dryRun ? bulk.dryRun(selection, caller) : bulk.start(selection, revokePrevious, caller);
}

/** Undefined when everything would be selected. */
function selectionOf(request: BulkRefreshAccountsRequest): BulkSelection | undefined {
  const { provider, client, tenant, labels } = request;
  if (client !== "" && provider === "") throw invalid("provider", "the client's provider");
  const isOpen = provider === "" && tenant === "" && Object.keys(labels).length === 0;
  return isOpen ? undefined : { provider, client, tenant, labels };
}

function callerOf({ caller, signal }: StreamCall): BulkCaller {
  return {
    actor: { caller: caller.name, purpose: "bulk_refresh" },
    sees: ({ tenant, provider, id }) => caller.maySee({ tenant, provider, account: id }),
    signal,
  };
}

function note({ notes }: StreamCall, { jobId, total, done, failed }: BulkProgress): void {
  if (jobId !== undefined) notes["job"] = jobId;
  for (const [name, count] of Object.entries({ total, done, failed })) notes[name] = String(count);
}

const OUTCOMES = {
  refreshed: BulkRefreshOutcome.REFRESHED,
  skipped: BulkRefreshOutcome.SKIPPED,
  failed: BulkRefreshOutcome.FAILED,
} as const;

function message({ jobId, done, total, failed, result, finished }: BulkProgress) {
  const counts = { done: BigInt(done), total: BigInt(total), failed: BigInt(failed) };
  const shown = result && {
    accountId: result.accountId,
    tokenName: result.slot,
    outcome: OUTCOMES[result.outcome],
    reason: result.reason ?? "",
    message: result.message,
    previousRevoked: result.previousRevoked,
  };
  return create(BulkRefreshAccountsResponseSchema, {
    ...counts,
    cursor: jobId ?? "",
    finished,
    ...(shown === undefined ? {} : { result: shown }),
  });
}
