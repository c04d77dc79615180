import type { ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { type Answer, methodNotAllowed, problem } from "./answer.ts";
import type { History, HistoryEntry } from "./history.ts";
import type { Incoming } from "./parameters.ts";
import { send } from "./send.ts";
import { wireNames } from "./wire-names.ts";

const LINES_PER_CHUNK = 500;

/** `GET /__history`: one JSON object a line, oldest first; `?after=N` leaves out sequences up to N. */
export function sendHistory(
  history: History,
  incoming: Incoming,
  response: ServerResponse,
  nowMs: number,
): void {
  const refusal = refuse(incoming);
  if (refusal) {
    send(response, refusal, nowMs);
    return;
  }
  const after = Number(incoming.query.get("after") ?? 0);
  const entries = history.entries().filter(({ sequence }) => sequence > after);
  response.writeHead(200, {
    "content-type": "application/jsonl",
    "cache-control": "no-store",
    date: new Date(nowMs).toUTCString(),
  });
  // Made piece by piece as the client reads: a full history is tens of megabytes.
  Readable.from(chunks(entries)).pipe(response);
}

function refuse(incoming: Incoming): Answer | undefined {
  if (incoming.method !== "GET") return methodNotAllowed("GET");
  const isSequence = /^\d{1,15}$/.test(incoming.query.get("after") ?? "0");
  return isSequence ? undefined : problem(400, "invalid_request", "after: must be a sequence number");
}

function* chunks(entries: readonly HistoryEntry[]): Generator<string> {
  for (let start = 0; start < entries.length; start += LINES_PER_CHUNK) {
    const lines = entries
      .slice(start, start + LINES_PER_CHUNK)
      .map((entry) => `${JSON.stringify(wireNames(entry))}\n`);
    yield lines.join("");
  }
}
