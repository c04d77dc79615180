import { create } from "@bufbuild/protobuf";
import { isReason } from "../../errors.ts";
import {
  AcceptRestoreResponseSchema,
  JournalService,
  ListEntriesResponseSchema,
  ReplayEntriesResponseSchema,
} from "../../gen/keyturn/v1/journal_service_pb.js";
import type { Journal } from "../../tokens/journal.ts";
import type { RestoreHold } from "../../tokens/records.ts";
import type { GoneJournal, Replay } from "../../tokens/replay.ts";
import type { RestoreWatch } from "../../tokens/restore.ts";
import { type Handlers, unary } from "../call.ts";
import { timestamp } from "../wire.ts";

export interface JournalServiceDeps {
  readonly journal: Journal;
  readonly replay: Pick<Replay, "all" | "adopt">;
  readonly restore: Pick<RestoreWatch, "held" | "accept">;
  /** Opens the journal of an instance that does not run. INVALID_REQUEST when there is none. */
  readonly withGoneJournal: <T>(directory: string, work: (gone: GoneJournal) => Promise<T>) => Promise<T>;
}

/** What this sidecar's disk keeps until the store has it. */
export function journalHandlers(deps: JournalServiceDeps): Handlers {
  return {
    listEntries: unary(JournalService.method.listEntries, async () => {
      const entries = (await deps.journal.entries()).map((entry) => ({
        attemptId: entry.attemptId,
        accountId: entry.accountId,
        tokenName: entry.slot,
        provider: entry.provider,
        client: entry.client,
        generation: BigInt(entry.generation),
        instance: entry.instance,
        keepTime: timestamp(entry.keptAtMs),
      }));
      // What the disk keeps is asked for while the store, which knows of a hold, is away.
      const hold = await deps.restore.held().catch((error: unknown) => {
        if (isReason(error, "STORE_UNAVAILABLE")) return undefined;
        throw error;
      });
      return create(ListEntriesResponseSchema, { entries, ...(hold && { restoreHold: holdMessage(hold) }) });
    }),
    replayEntries: unary(JournalService.method.replayEntries, async ({ directory }, call) => {
      const actor = { caller: call.caller.name, purpose: "replay" };
      const replayed =
        directory === ""
          ? await deps.replay.all(actor)
          : await deps.withGoneJournal(directory, (gone) => deps.replay.adopt(gone, actor));
      const counts = { settled: 0, unmapped: 0 };
      for (const one of replayed) counts[one] += 1;
      return create(ReplayEntriesResponseSchema, counts);
    }),
    acceptRestore: unary(JournalService.method.acceptRestore, async () => {
      await deps.restore.accept();
      return create(AcceptRestoreResponseSchema);
    }),
  };
}

function holdMessage({ sinceMs, instance, seenRevision, foundRevision }: RestoreHold) {
  const revisions = { seenRevision: BigInt(seenRevision), foundRevision: BigInt(foundRevision) };
  return { sinceTime: timestamp(sinceMs), instance, ...revisions };
}
