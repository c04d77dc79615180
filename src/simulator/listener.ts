import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "../clock.ts";
import { problem } from "./answer.ts";
import type { Incoming } from "./parameters.ts";
import { send } from "./send.ts";

const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** Answers one request whose body has been read; the raw message is for its socket only. */
export type Route = (
  incoming: Incoming,
  response: ServerResponse,
  message: IncomingMessage,
) => void | Promise<void>;

/** Reads each request's body (16 MiB at most) and hands it to `route`. A bug answers 500 and ends only its connection. */
export function listener(
  clock: Clock,
  route: Route,
): (message: IncomingMessage, response: ServerResponse) => void {
  return (message, response) => {
    const arrivedAtMs = clock.now();
    const chunks: Buffer[] = [];
    let bytes = 0;
    message.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
    });
    // A request cut off before its end was never made.
    message.on("error", () => response.destroy());
    message.on("end", () => {
      if (bytes > MAX_BODY_BYTES) {
        send(
          response,
          problem(413, "invalid_request", `the body exceeds ${MAX_BODY_BYTES} bytes`),
          clock.now(),
        );
        return;
      }
      const incoming = understand(message, Buffer.concat(chunks), arrivedAtMs);
      run(() => route(incoming, response, message)).catch(() => fail(response, clock));
    });
  };
}

async function run(work: () => void | Promise<void>): Promise<void> {
  await work();
}

function understand(message: IncomingMessage, body: Buffer, arrivedAtMs: number): Incoming {
  const url = message.url ?? "/";
  const mark = url.indexOf("?");
  return {
    method: message.method ?? "GET",
    path: mark < 0 ? url : url.slice(0, mark),
    query: new URLSearchParams(mark < 0 ? "" : url.slice(mark + 1)),
    headers: message.headers,
    body,
    arrivedAtMs,
  };
}

function fail(response: ServerResponse, clock: Clock): void {
  if (response.headersSent) response.destroy();
  else send(response, problem(500, "server_error", "the simulator failed"), clock.now());
}
