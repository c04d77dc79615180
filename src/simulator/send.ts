import type { ServerResponse } from "node:http";
import type { Answer } from "./answer.ts";

const SLOW_PIECES = 20;

/** Sends `answer` whole, dated `dateMs`. */
export function send(response: ServerResponse, answer: Answer, dateMs: number): void {
  head(response, answer, dateMs);
  response.end(bodyOf(answer));
}

/** Announces the whole body, sends its first `bytes` (default: half) and closes the connection. */
export function sendPart(
  response: ServerResponse,
  answer: Answer,
  dateMs: number,
  bytes: number | undefined,
): void {
  const body = bodyOf(answer);
  head(response, answer, dateMs);
  // Never all of it: that would be a whole answer.
  const part = body.subarray(0, Math.min(bytes ?? body.length >> 1, Math.max(0, body.length - 1)));
  if (part.length === 0) response.flushHeaders();
  else response.write(part);
  response.req.socket.destroySoon();
}

/** How slow a slow answer is. */
export interface Dribble {
  readonly totalMs: number;
  pause(ms: number): Promise<void>;
}

/** Sends the head at once and the body in up to 20 pieces over `totalMs`; stops when nobody listens. */
export async function sendSlowly(
  response: ServerResponse,
  answer: Answer,
  dateMs: number,
  { totalMs, pause }: Dribble,
): Promise<void> {
  const body = bodyOf(answer);
  const pieces = Math.max(1, Math.min(SLOW_PIECES, body.length));
  head(response, answer, dateMs);
  response.flushHeaders();
  for (let piece = 0; piece < pieces; piece += 1) {
    await pause(totalMs / pieces);
    if (response.destroyed) return;
    const at = (n: number) => Math.floor((n * body.length) / pieces);
    response.write(body.subarray(at(piece), at(piece + 1)));
  }
  response.end();
}

/** Closes the connection by RST, so that the client sees a reset and not an end. */
export function resetConnection(response: ServerResponse): void {
  // A pipelined response has no socket of its own yet; its request has.
  response.req.socket.resetAndDestroy();
}

function head(response: ServerResponse, { status, headers, body }: Answer, dateMs: number): void {
  response.sendDate = false;
  const length = isBodiless(status) ? {} : { "content-length": Buffer.byteLength(body) };
  response.writeHead(status, { ...headers, date: new Date(dateMs).toUTCString(), ...length });
}

function bodyOf({ status, body }: Answer): Buffer {
  return Buffer.from(isBodiless(status) ? "" : body);
}

function isBodiless(status: number): boolean {
  return status === 204 || status === 304;
}
