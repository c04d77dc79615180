// A token endpoint that grants whatever it is asked: node any-vendor.ts ANSWER_MS. Prints its port; GET says what it saw.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface Seen {
  readonly requests: number;
  readonly mostAtOnce: number;
  /** Refresh tokens that came more than once. */
  readonly reused: number;
  /** From the first request to the last. */
  readonly busyMs: number;
}

const answerMs = Number(process.argv[2]);
const refreshTokens = new Set<string>();
let requests = 0;
let running = 0;
let mostAtOnce = 0;
let firstMs = 0;
let lastMs = 0;

function seen(): Seen {
  return { requests, mostAtOnce, reused: requests - refreshTokens.size, busyMs: lastMs - firstMs };
}

const server = createServer(async (request, response) => {
  if (request.method === "GET") {
    response.end(JSON.stringify(seen()));
    return;
  }
  requests += 1;
  running += 1;
  mostAtOnce = Math.max(mostAtOnce, running);
  lastMs = performance.now();
  firstMs ||= lastMs;
  response.on("close", () => {
    running -= 1;
  });
  const serial = String(requests);
  const body = Buffer.concat(await request.toArray()).toString();
  refreshTokens.add(new URLSearchParams(body).get("refresh_token") ?? "");
  setTimeout(() => {
    const tokens = { access_token: `access-${serial}`.padEnd(600, "x"), refresh_token: `refresh-${serial}` };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ ...tokens, token_type: "Bearer", expires_in: 7_200 }));
  }, answerMs);
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`port ${(server.address() as AddressInfo).port}\n`));
