import type { Readable } from "node:stream";
import { invalid } from "../../errors.ts";
import type { Row } from "./rows.ts";

/** A longer line is no account but another kind of file. */
const MAX_LINE_BYTES = 1_048_576;

/** One JSON object a line; empty lines are passed over. */
export async function* ndjsonRows(source: Readable): AsyncGenerator<Row, void> {
  let number = 0;
  for await (const bytes of lines(source)) {
    number += 1;
    const text = bytes.toString("utf8");
    if (text.trim() !== "") yield rowOf(number, text);
  }
}

function rowOf(line: number, text: string): Row {
  const raw = text.trimEnd();
  try {
    const value: unknown = JSON.parse(raw.replace(/^\uFEFF/, ""));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { line, raw, value };
  } catch {
    // The parser's own words quote what they read.
  }
  return { line, raw, fault: "is not one JSON object" };
}

/** Lines of bytes, without their ends, as they come. */
async function* lines(source: Readable): AsyncGenerator<Buffer, void> {
  let parts: Buffer[] = [];
  let size = 0;
  let number = 1;
  const take = (bytes: Buffer) => {
    size += bytes.length;
    if (size > MAX_LINE_BYTES) throw invalid(`line ${number}`, `at most ${MAX_LINE_BYTES} bytes`);
    parts.push(bytes);
  };
  for await (const chunk of source) {
    const bytes: Buffer = Buffer.from(chunk);
    let start = 0;
    for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
      take(bytes.subarray(start, end));
      yield Buffer.concat(parts);
      number += 1;
      parts = [];
      size = 0;
      start = end + 1;
    }
    take(bytes.subarray(start));
  }
  if (size > 0) yield Buffer.concat(parts);
}
