import { resolve } from "node:path";
import {
  AcceptRestoreResponseSchema,
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
    const { entries, restoreHold } = await (await connect()).unary(JournalService.method.listEntries, {});
    if (restoreHold !== undefined)
      output.note(
        "The store was set back: refreshes wait. Replay journals, then: keyturn journal accept-restore",
      );
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
  summary: "Try to settle every kept answer again, or those of an instance that is gone",
  listener: "admin",
  arguments: [{ name: "DIR", optional: true }],
  options: {},
  about: `Idempotent; nothing that was sent is sent again. DIR is the state directory of another sidecar that does not run any
more, on the sidecar's machine: the mounted volume of a deleted pod. What that one left open is settled, and its answers
are stored. The exit code is 1 when a file still does not map an answer.`,
  examples: [
    { line: "keyturn journal replay", says: "once the store is back" },
    { line: "keyturn journal replay /mnt/old-pod/keyturn", says: "a dead pod's answers" },
  ],
  run: async ({ args, connect, output }) => {
    const directory = args[0] === undefined ? "" : resolve(args[0]);
    const answer = await (await connect()).unary(JournalService.method.replayEntries, { directory });
    if (output.json) output.message(ReplayEntriesResponseSchema, answer);
    else {
      output.text(`${answer.settled} settled, ${answer.unmapped} still not mapped by their provider's file.`);
      if (answer.unmapped > 0)
        output.note("Mend the file (keyturn providers lint), then: keyturn journal replay");
    }
    return answer.unmapped > 0 ? EXIT.failed : EXIT.done;
  },
};

const acceptRestore: Command = {
  name: "journal accept-restore",
  summary: "Let refreshes go on after the store was set back to an earlier state",
  listener: "admin",
  arguments: [],
  options: {},
  about: `A restored store brings back refresh tokens that have been spent since. While its state is not accepted, valid tokens are
served and nothing is refreshed whose refresh must not be sent twice. Replay every journal there is first; whom the
provider refuses afterwards has to authorize again.`,
  examples: [{ line: "keyturn journal accept-restore", says: "when every journal is replayed" }],
  run: async ({ connect, output }) => {
    const answer = await (await connect()).unary(JournalService.method.acceptRestore, {});
    if (output.json) output.message(AcceptRestoreResponseSchema, answer);
    else output.text("The store's state is accepted: refreshes go on.");
    return EXIT.done;
  },
};

/** What this sidecar's disk keeps. */
export const journalCommands: readonly Command[] = [list, replay, acceptRestore];
