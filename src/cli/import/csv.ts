import type { Readable } from "node:stream";
import { CsvError, parse } from "csv-parse";
import { invalid } from "../../errors.ts";
import type { Row } from "./rows.ts";

const MAX_RECORD_BYTES = 1_048_576;

/** Where a column's text goes in a line's object, and as what. */
interface Place {
  readonly path: readonly string[];
  readonly read?: (text: string) => unknown;
}

const seconds = (text: string) => (/^\d+$/.test(text) ? Number(text) : text);
const words = (text: string) => text.split(/[\s,]+/).filter((word) => word !== "");

const PLACES: Readonly<Record<string, Place>> = {
  account_id: { path: ["account_id"] },
  provider: { path: ["provider"] },
  client: { path: ["client"] },
  tenant: { path: ["tenant"] },
  display_name: { path: ["display_name"] },
  external_subject: { path: ["external_subject"] },
  access_token: { path: ["credential", "oauth", "access_token"] },
  refresh_token: { path: ["credential", "oauth", "refresh_token"] },
  token_type: { path: ["credential", "oauth", "token_type"] },
  refresh_token_expires_at: {
    path: ["credential", "oauth", "refresh_token_expires_at"],
    read: seconds,
  },
  scopes: { path: ["credential", "oauth", "scopes"], read: words },
  api_key: { path: ["credential", "api_key", "api_key"] },
  username: { path: ["credential", "basic", "username"] },
  password: { path: ["credential", "basic", "password"] },
  bearer_token: { path: ["credential", "bearer", "token"] },
  client_credentials: {
    path: ["credential", "client_credentials"],
    read: (text) => (text === "true" ? {} : text),
  },
  // Of whichever credential the row has.
  expires_at: { path: ["credential", "expires_at"], read: seconds },
};
/** `label.team`: the rest of the name is the user's own. */
const FAMILIES: Readonly<Record<string, readonly string[]>> = {
  label: ["labels"],
  field: ["fields"],
  extra: ["credential", "api_key", "extra"],
  member: ["credential", "oauth", "members"],
  secret: ["credential", "secrets"],
};

interface Parsed {
  readonly record: readonly string[];
  /** As it stood in the file, with the empty lines before it. */
  readonly raw: string;
}

/** Rows under a head of column names; an empty cell is an absent member. INVALID_REQUEST for a head that is not one. */
export async function* csvRows(source: Readable): AsyncGenerator<Row, void> {
  const parser = source.pipe(
    parse({
      bom: true,
      raw: true,
      relax_column_count: true,
      skip_empty_lines: true,
      max_record_size: MAX_RECORD_BYTES,
    }),
  );
  source.once("error", (error) => parser.destroy(error));
  let places: readonly Place[] | undefined;
  let nextLine = 1;
  try {
    for await (const { record, raw } of parser as AsyncIterable<Parsed>) {
      // The parser's own count takes a CRLF inside of a cell for two.
      const text = raw.trimStart();
      const line = nextLine + breaksIn(raw.slice(0, raw.length - text.length));
      nextLine = line + breaksIn(text.trimEnd()) + 1;
      if (places === undefined) places = record.map((name) => placeOf(name.trim()));
      else if (record.length !== places.length)
        yield { line, raw, fault: `has ${record.length} cells; the head has ${places.length}` };
      else yield { line, raw, value: objectOf(places, record) };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    // Its own words quote what it read.
    throw invalid(`line ${nextLine}`, `from here on it is not CSV as RFC 4180 has it (${error.code})`);
  } finally {
    source.destroy();
  }
}

function breaksIn(text: string): number {
  return text.split(/\r\n|\n|\r/).length - 1;
}

function placeOf(column: string): Place {
  const plain = Object.hasOwn(PLACES, column) ? PLACES[column] : undefined;
  if (plain !== undefined) return plain;
  const [, family = "", name = ""] = /^([a-z]+)\.(.+)$/.exec(column) ?? [];
  const under = Object.hasOwn(FAMILIES, family) ? FAMILIES[family] : undefined;
  if (under !== undefined) return { path: [...under, name] };
  const known = [...Object.keys(PLACES), ...Object.keys(FAMILIES).map((each) => `${each}.NAME`)];
  throw invalid("line 1", `a head with only these columns: ${known.join(", ")}`);
}

type Members = { [name: string]: unknown };

function objectOf(places: readonly Place[], record: readonly string[]): Members {
  const line: Members = Object.create(null);
  places.forEach(({ path, read }, n) => {
    const text = record[n] ?? "";
    if (text !== "") put(line, path, read === undefined ? text : read(text));
  });
  const given = line["credential"] as Members | undefined;
  const oauth = given?.["oauth"] as Members | undefined;
  if (given !== undefined && oauth !== undefined && "expires_at" in given) {
    oauth["expires_at"] = given["expires_at"];
    delete given["expires_at"];
  }
  return line;
}

function put(into: Members, path: readonly string[], value: unknown): void {
  let at = into;
  for (const name of path.slice(0, -1)) {
    at[name] ??= Object.create(null);
    at = at[name] as Members;
  }
  at[path.at(-1) ?? ""] = value;
}
