import type { MessageShape } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { AuditRecordSchema, AuditService } from "../../gen/keyturn/v1/audit_service_pb.js";
import type { Command, Invocation } from "../command.ts";
import { EXIT } from "../exit.ts";
import type { Options } from "../options.ts";
import { plain } from "../paint.ts";
import type { Column } from "../table.ts";
import { iso } from "../when.ts";

type Trail = MessageShape<typeof AuditRecordSchema>;

/** So many lines share their columns' widths; the trail itself may be longer than memory. */
const LINES_AT_ONCE = 500;

const query: Command = {
  name: "audit query",
  summary: "Show who opened, changed or rotated what, oldest first",
  listener: "admin",
  arguments: [],
  options: {
    since: { value: "TIME", help: "from then on" },
    until: { value: "TIME", help: "before then" },
    account: { value: "ACCOUNT", help: "only this account's" },
    operation: { value: "NAME", help: "kek.wrap, kek.unwrap, token.open … or an administrative RPC" },
    caller: { value: "NAME", help: "only this caller's" },
  },
  examples: [
    { line: "keyturn audit query --account acme-crm --since 2026-11-01", says: "one account's month" },
    { line: "keyturn audit query --operation AccountService/DeleteAccount --json", says: "who deleted" },
  ],
  run: async (invocation) => {
    const { options, output, connect } = invocation;
    const request = {
      ...time("startTime", options, "since"),
      ...time("endTime", options, "until"),
      accountId: options.text("account"),
      operation: options.text("operation"),
      caller: options.text("caller"),
    };
    let waiting: Trail[] = [];
    const flush = () => {
      if (waiting.length > 0) output.table(waiting, COLUMNS);
      waiting = [];
    };
    let count = 0;
    for await (const { record } of (await connect()).stream(AuditService.method.queryAudit, request)) {
      if (record === undefined) continue;
      count += 1;
      if (output.json) output.message(AuditRecordSchema, record);
      else if (waiting.push(record) === LINES_AT_ONCE) flush();
    }
    flush();
    if (count === 0) output.note("No records match.");
    return EXIT.done;
  },
};

const COLUMNS: readonly Column<Trail>[] = [
  { title: "TIME", of: ({ time: at }) => (at === undefined ? "" : iso(timestampMs(at))), whole: true },
  { title: "OPERATION", of: ({ operation }) => operation, whole: true },
  { title: "ACCOUNT", of: ({ accountId }) => accountId },
  { title: "CALLER", of: ({ caller }) => caller },
  {
    title: "OUTCOME",
    of: ({ outcome }) => outcome,
    paint: ({ outcome }, text, paint) =>
      outcome === "ok" || outcome === "begun" ? text : paint("red", text),
  },
  { title: "CAUSE", of: ({ detail }) => detail["cause"] ?? detail["field"] ?? "" },
  { title: "COUNT", of: ({ count }) => `${count}`, right: true },
  { title: "PURPOSE", of: ({ purpose }) => purpose },
  { title: "KEY", of: ({ kekId, kekVersion }) => (kekId === "" ? "" : `${kekId} v${kekVersion}`) },
  { title: "INSTANCE", of: ({ instance, seq }) => `${instance}/${seq}` },
];

function time<K extends string>(member: K, options: Options, name: string) {
  const ms = options.time(name);
  return ms === undefined ? {} : { [member]: timestampFromMs(ms) };
}

const verify: Command = {
  name: "audit verify",
  summary: "Prove that no audit record was changed, removed, reordered or cut off",
  listener: "admin",
  arguments: [{ name: "DIRECTORY", optional: true }],
  options: {},
  about:
    "Asks the running sidecar; with a DIRECTORY it reads a stopped one's files here, and then cannot know of records\ncut off the end. The exit code is 1 when the chain is broken.",
  examples: [
    { line: "keyturn audit verify", says: "the running sidecar's trail" },
    { line: "keyturn audit verify /backup/keyturn/audit", says: "files from a backup" },
  ],
  run: async (invocation) => {
    const { output } = invocation;
    const { intact, records, faults } = await verified(invocation);
    if (output.json) output.object({ intact, records: `${records}`, faults: [...faults] });
    else if (intact) output.text(`The chain is intact: ${records} records.`);
    else
      output.text(
        [`The chain is BROKEN: ${records} records read.`, ...faults.map((fault) => `  ${plain(fault)}`)].join(
          "\n",
        ),
      );
    return intact ? EXIT.done : EXIT.failed;
  },
};

function verified({ args, connect, rooms }: Invocation) {
  const [directory] = args;
  if (directory !== undefined) return rooms.verifyAudit(directory);
  return connect().then((connection) => connection.unary(AuditService.method.verifyAudit, {}));
}

/** This sidecar's audit trail. */
export const auditCommands: readonly Command[] = [query, verify];
