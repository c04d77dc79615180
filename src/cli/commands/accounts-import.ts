import { createReadStream, statSync } from "node:fs";
import { basename } from "node:path";
import { Readable } from "node:stream";
import { invalid } from "../../errors.ts";
import type { Command, Invocation } from "../command.ts";
import { EXIT } from "../exit.ts";
import type { LineResult } from "../import/run.ts";
import { Progress } from "../progress.ts";
import type { Column } from "../table.ts";

const FORMATS = ["ndjson", "csv"];
/** So many lines share their columns' widths; a file may have more than memory. */
const LINES_AT_ONCE = 500;

/** Store many accounts from a file. */
export const accountsImport: Command = {
  name: "accounts import",
  summary: "Store many accounts from a file, one result a line",
  listener: "admin",
  arguments: [{ name: "FILE", optional: true }],
  options: {
    format: { value: "FORMAT", help: "of the file, where its name does not say", choices: FORMATS },
    "dry-run": { help: "check every line and store nothing" },
    resume: { help: "go on where a stopped import of this file was" },
    schema: { help: "print the JSON Schema of a line, and do nothing else" },
  },
  about: `A line is a JSON object; --schema says what may be in it. A CSV file has a head with the columns account_id, provider,
client, tenant, display_name, external_subject, access_token, refresh_token, token_type, expires_at,
refresh_token_expires_at, scopes, api_key, username, password, bearer_token, client_credentials, and label.NAME,
field.NAME, extra.NAME (beside an API key), member.NAME (of the token's answer), secret.NAME (what tokens are minted from, by
the names of the provider's file: secret.private_key). FILE - is stdin.

Importing a line again changes nothing, whatever has become of its account since. Tokens whose expiry is not given are
refreshed one after the other under their client's caps, those that cannot be refreshed are verified. Without --json there
is a table of the lines that failed, and the counts; --json gives every result. The exit code is 1 when a line failed.

Stop the system that refreshes these tokens now before the import: two refreshers end each other's grants.`,
  examples: [
    { line: "keyturn accounts import accounts.ndjson --dry-run", says: "what would happen" },
    {
      line: "keyturn accounts import accounts.csv --json > results.ndjson",
      says: "every result, a line each",
    },
    {
      line: "keyturn accounts import accounts.ndjson --resume",
      says: "after Ctrl-C, or when the sidecar was away",
    },
    {
      line: "pass show export | keyturn accounts import - --format ndjson",
      says: "without a file in the clear",
    },
  ],
  run,
};

async function run(invocation: Invocation): Promise<number> {
  const { args, options, output, io, clock, connect } = invocation;
  // The parsers are loaded by those who need them.
  if (options.has("schema")) {
    const { lineSchemaText } = await import("../import/line.ts");
    output.text(lineSchemaText());
    return EXIT.done;
  }
  const file = args[0] ?? "";
  if (file === "") throw invalid("FILE", "is needed: the file to import, or - for stdin");
  if (file === "-" && options.has("resume"))
    throw invalid("--resume", "needs a file; stdin cannot be read again");
  const format = formatOf(file, options.text("format"));
  const dryRun = options.has("dry-run");
  const [{ importRows }, { ImportMark }, rowsOf] = await Promise.all([
    import("../import/run.ts"),
    import("../import/mark.ts"),
    format === "csv"
      ? import("../import/csv.ts").then(({ csvRows }) => csvRows)
      : import("../import/ndjson.ts").then(({ ndjsonRows }) => ndjsonRows),
  ]);
  const onDisk = file === "-" ? undefined : createReadStream(file);
  const source = onDisk ?? Readable.from(io.stdin);
  const totalBytes = onDisk === undefined ? 0 : statSync(file).size;
  const mark = file === "-" || dryRun ? undefined : ImportMark.beside(file, options.has("resume"));
  const progress = new Progress(io);
  const counts = { created: 0, unchanged: 0, failed: 0 };
  let failed: LineResult[] = [];
  const flush = () => {
    progress.end();
    if (failed.length > 0) output.table(failed, COLUMNS);
    failed = [];
  };
  let isWhole = false;
  try {
    const connection = await connect();
    const nowMs = () => clock.now();
    for await (const result of importRows({ connection, rows: rowsOf(source), dryRun, mark, nowMs })) {
      counts[result.outcome] += 1;
      if (output.json) output.object(objectOf(result));
      else if (result.outcome === "failed" && failed.push(result) === LINES_AT_ONCE) flush();
      if (onDisk !== undefined && !output.json) progress.show("import, bytes", onDisk.bytesRead, totalBytes);
    }
    isWhole = true;
  } finally {
    flush();
    source.destroy();
    if (isWhole) mark?.remove();
    else if (mark?.write() === false)
      output.note(`The place where this import stopped could not be written beside ${basename(file)}.`);
    else if (mark !== undefined) output.note(`Go on with: keyturn accounts import ${file} --resume`);
  }
  if (!output.json) output.text(summary(counts, dryRun));
  return counts.failed > 0 ? EXIT.failed : EXIT.done;
}

function formatOf(file: string, asked: string): "ndjson" | "csv" {
  if (asked === "csv" || asked === "ndjson") return asked;
  if (/\.csv$/i.test(file)) return "csv";
  if (/\.(ndjson|jsonl)$/i.test(file)) return "ndjson";
  throw invalid("--format", "ndjson or csv, since the file's name does not say");
}

function objectOf({ line, accountId, outcome, reason, message }: LineResult) {
  return { line, account_id: accountId, outcome, reason, message };
}

const COLUMNS: readonly Column<LineResult>[] = [
  { title: "LINE", of: ({ line }) => `${line}`, right: true },
  { title: "ACCOUNT", of: ({ accountId }) => accountId, whole: true },
  { title: "REASON", of: ({ reason }) => reason, whole: true, paint: (_, text, paint) => paint("red", text) },
  { title: "WHAT IS WRONG", of: ({ message }) => message, whole: true },
];

function summary(
  {
    created,
    unchanged,
    failed,
  }: { readonly created: number; readonly unchanged: number; readonly failed: number },
  dryRun: boolean,
): string {
  const stored = dryRun ? `${created} would be created` : `${created} created`;
  return `${stored}, ${unchanged} unchanged, ${failed} failed.`;
}
