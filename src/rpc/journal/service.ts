import { create } from "@bufbuild/protobuf";
import {
  JournalService,
  ListEntriesResponseSchema,
  ReplayEntriesResponseSchema,
} from "../../gen/keyturn/v1/journal_service_pb.js";
import type { Journal } from "../../tokens/journal.ts";
import type { Replay } from "../../tokens/replay.ts";
import { type Handlers, unary } from "../call.ts";
import { timestamp } from "../wire.ts";

/** What this sidecar's disk keeps until the store has it. */
export function journalHandlers(deps: {
  readonly journal: Journal;
  readonly replay: Pick<Replay, "all">;
}): Handlers {
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
      return create(ListEntriesResponseSchema, { entries });
    }),
    replayEntries: unary(JournalService.method.replayEntries, async (_request, call) => {
      const counts = { settled: 0, unmapped: 0 };
      for (const replayed of await deps.replay.all({ caller: call.caller.name, purpose: "replay" }))
        counts[replayed] += 1;
      return create(ReplayEntriesResponseSchema, counts);
    }),
  };
}
