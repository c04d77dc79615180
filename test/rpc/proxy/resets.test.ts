import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it, vi } from "vitest";
import { AccountService } from "../../../src/gen/keyturn/v1/account_service_pb.js";
import {
  CredentialService,
  type ProxyStreamResponse,
} from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import { type Caller, causeOf, reasonOf } from "../../e2e/harness.ts";
import { serveWithin } from "./outside-world.ts";
import { rawServer } from "./raw-server.ts";
import { stage } from "./stage.ts";

const CHUNK = Buffer.alloc(65_536, 1);
const MIB = 1024 * 1024;

/** A TCP port in an API's place. */
function resetting(behave: (socket: Socket, received: number) => void) {
  return rawServer((socket) => {
    let received = 0;
    socket.on("data", (chunk) => {
      received += chunk.length;
      behave(socket, received);
    });
  });
}

/** What a streamed call came to: the parts that arrived, and how it ended. */
interface Outcome {
  readonly parts: readonly string[];
  readonly ended: string;
  /** Of the request's body, what was taken. */
  readonly sentBytes: number;
}

/** Sends `uploadBytes` as fast as they are taken, and hears until the end. */
async function call(data: Caller, accountId: string, uploadBytes = 0): Promise<Outcome> {
  const stream = data.duplex(CredentialService.method.proxyStream, { deadlineMs: 30_000 });
  const parts: string[] = [];
  let sentBytes = 0;
  let over = false;
  stream.on("data", ({ part }: ProxyStreamResponse) => {
    parts.push(part.case === "head" ? `head ${part.value.status}` : String(part.case));
  });
  const ended = new Promise<string>((resolve) => {
    stream.on("end", () => resolve("ok"));
    stream.on("error", (error) => resolve(`${reasonOf(error)} ${causeOf(error)}`));
  }).finally(() => {
    over = true;
  });
  const method = uploadBytes > 0 ? "PUT" : "GET";
  stream.write({ part: { case: "head", value: { accountId, method, path: "/me" } } });
  const push = () => {
    if (over || stream.writableEnded) return;
    if (sentBytes >= uploadBytes) return void stream.end();
    sentBytes += CHUNK.length;
    stream.write({ part: { case: "chunk", value: CHUNK } }, () => setImmediate(push));
  };
  push();
  return { parts, ended: await ended, sentBytes };
}

const head = "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n";
const reset = (socket: Socket) => void socket.resetAndDestroy();
/** Writes, and resets once that has arrived. */
const afterwards = (socket: Socket, text: string) =>
  void socket.write(text, () => setTimeout(reset, 30, socket));

describe("a connection that the provider resets", () => {
  it.each<[string, (socket: Socket, received: number) => void, number, readonly string[]]>([
    ["before it has read the request", reset, 0, []],
    [
      "in the middle of the upload",
      (socket, received) => void (received > MIB && reset(socket)),
      64 * MIB,
      [],
    ],
    ["at the end of the upload", (socket, received) => void (received > MIB && reset(socket)), MIB, []],
    ["after its headers", (socket) => afterwards(socket, head), 0, ["head 200"]],
    ["in the middle of its body", (socket) => afterwards(socket, `${head}half`), 0, ["head 200", "chunk"]],
    [
      "in the middle of a chunk of its body",
      (socket) => afterwards(socket, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nhalf"),
      0,
      ["head 200", "chunk"],
    ],
  ])(
    "%s ends the call with UNAVAILABLE and leaves nothing open",
    async (_when, behave, uploadBytes, parts) => {
      await using at = await stage();
      const api = await resetting(behave);
      await at.have("acme", { fields: { api: String(api.port) } });
      const outcome = await call(at.data, "acme", uploadBytes);
      expect(outcome.ended).toMatch(/^PROVIDER_UNAVAILABLE connection_(reset|closed)$/);
      expect(outcome.parts).toEqual(parts);
      expect(outcome.sentBytes).toBeLessThanOrEqual(uploadBytes === 64 * MIB ? 48 * MIB : uploadBytes);
      const before = process.getActiveResourcesInfo().length;
      for (let round = 0; round < 4; round += 1)
        await Promise.all(
          Array.from({ length: 5 }, () => call(at.data, "acme", Math.min(uploadBytes, 2 * MIB))),
        );
      await vi.waitFor(() => {
        expect(api.open.size).toBe(0);
        expect(process.getActiveResourcesInfo().length - before).toBeLessThan(8);
      }, 10_000);
    },
    60_000,
  );

  it("because the upload is not wanted has its answer passed on", async () => {
    await using at = await stage();
    const refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const answered = new WeakSet<Socket>();
    const api = await resetting((socket) => {
      if (answered.has(socket)) return;
      answered.add(socket);
      socket.write(refusal, () => setTimeout(reset, 200, socket));
    });
    await at.have("acme", { fields: { api: String(api.port) } });
    const outcome = await call(at.data, "acme", 64 * MIB);
    expect(outcome.parts).toEqual(["head 413"]);
    await vi.waitFor(() => expect(api.open.size).toBe(0), 10_000);
  }, 30_000);

  it("during the TLS handshake says that nothing was sent", async () => {
    const api = await resetting(reset);
    const file = `credentials: { format: api_key }
authorization: { format: header, config: { name: X-Key, value: "\${api_key}" } }
allowed_hosts: [api.example.test]
proxy: { base_url: "https://api.example.test/v1" }
`;
    const names = { "api.example.test": [["93.184.215.14"]] };
    const at = await serveWithin({ names, port: api.port }, { providers: { home: file } });
    const credential = { kind: { case: "apiKey" as const, value: { apiKey: "k" } } };
    const account = { accountId: "acme", provider: "home", tenant: "acme", credential };
    await at.admin.call(AccountService.method.createAccount, account);
    for (const uploadBytes of [0, 4 * MIB]) {
      const { parts, ended } = await call(at.data, "acme", uploadBytes);
      expect([parts, ended]).toEqual([[], "PROVIDER_UNAVAILABLE tls_failed"]);
    }
    await delay(50);
    expect(api.open.size).toBe(0);
  }, 30_000);
});
