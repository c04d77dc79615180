import {
  JournalEntrySchema,
  JournalService,
  ReplayEntriesResponseSchema,
} from "../../gen/keyturn/v1/journal_service_pb.js";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { cell } from "../when.ts";

const list: Command = {
  name: "journal list",
  summary: "List the answers that this sidecar's disk keeps until the store has them",
  listener: "admin",
  arguments: [],
  options: {},
  examples: [{ line: "keyturn journal list", says: "empty on a healthy sidecar" }],
  run: async ({ connect, output, clock }) => {
    const { entries } = await (await connect()).unary(JournalService.method.listEntries, {});
    if (output.json) for (const entry of entries) output.message(JournalEntrySchema, entry);
    else if (entries.length === 0) output.text("The journal is empty: the store has everything.");
    else {
      output.table(entries, [
        { title: "ACCOUNT", of: ({ accountId }) => accountId, whole: true },
        { title: "TOKEN", of: ({ tokenName }) => tokenName },
        { title: "KEPT", of: ({ keepTime }) => cell(keepTime, clock.now(), output.onTerminal) },
        { title: "GEN", of: ({ generation }) => `${generation}`, right: true },
        { title: "PROVIDER", of: ({ provider }) => provider },
        { title: "CLIENT", of: ({ client }) => client },
        { title: "INSTANCE", of: ({ instance }) => instance },
        { title: "ATTEMPT", of: ({ attemptId }) => attemptId, whole: true },
      ]);
    }
    return EXIT.done;
  },
};

const replay: Command = {
  name: "journal replay",
  summary: "Try to settle every kept answer again",
  listener: "admin",
  arguments: [],
  options: {},
  about:
    "Idempotent; nothing is sent to a provider. The exit code is 1 when a file still does not map an answer.",
  examples: [{ line: "keyturn journal replay", says: "once the store is back" }],
  run: async ({ connect, output }) => {
    const answer = await (await connect()).unary(JournalService.method.replayEntries, {});
    if (output.json) output.message(ReplayEntriesResponseSchema, answer);
    else {
      output.text(`${answer.settled} settled, ${answer.unmapped} still not mapped by their provider's file.`);
      if (answer.unmapped > 0)
        output.note("Mend the file (keyturn providers lint), then: keyturn journal replay");
    }
    return answer.unmapped > 0 ? EXIT.failed : EXIT.done;
  },
};

/** What this sidecar's disk keeps. */
export const journalCommands: readonly Command[] = [list, replay];
