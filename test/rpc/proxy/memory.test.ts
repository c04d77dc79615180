import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { NODE_FLAGS } from "../../../.ci/node-flags.ts";
import { AccountService } from "../../../src/gen/keyturn/v1/account_service_pb.js";
import {
  CredentialService,
  type ProxyStreamResponse,
} from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import { serve } from "../../e2e/serving-process.ts";
import { tempFolder } from "../../fakes/temp-folder.ts";
import { PROVIDERS, proxyOf, stage, streamed } from "./stage.ts";

const MIB = 1024 * 1024;
const CHUNK = Buffer.alloc(65_536, 1);
const CHUNKS = 1_600;
const SMALL = Buffer.alloc(1_024, 1);

/** In bytes, of a process: `VmRSS` as it is, `VmHWM` at its highest since it was last reset. */
function memoryOf(pid: number, what: "VmRSS" | "VmHWM"): number {
  const line = new RegExp(`^${what}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1]) * 1024;
}

describe("100 MiB", () => {
  it("go up and come down in at most 64 MiB more than the sidecar has anyway", async () => {
    let uploaded = 0;
    const server = createServer((request, response) => {
      request.on("data", (chunk: Buffer) => (uploaded += chunk.length));
      request.on("end", () => (request.method === "PUT" ? response.end() : download(response)));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    const sidecar = await serve({
      stateDir: tempFolder(),
      config: `providers: { directories: [${PROVIDERS}] }`,
      flags: [...NODE_FLAGS],
    });
    const pid = sidecar.child.pid ?? 0;
    const account = {
      accountId: "acme",
      provider: "keys",
      tenant: "acme",
      fields: { api: String((server.address() as AddressInfo).port) },
      credential: { kind: { case: "apiKey" as const, value: { apiKey: "k", extra: { app_key: "a" } } } },
    };
    await sidecar.admin.call(AccountService.method.createAccount, account);
    // A sidecar in service: what compiled code and the heap of small calls take is not the streams'.
    for (let i = 0; i < 40; i += 1) {
      await Promise.all(Array.from({ length: 25 }, () => proxyOf(sidecar.data, { method: "PUT" })));
    }
    const growth = async (work: () => Promise<unknown>) => {
      const before = memoryOf(pid, "VmRSS");
      writeFileSync(`/proc/${pid}/clear_refs`, "5"); // the highest mark begins anew
      await work();
      return (memoryOf(pid, "VmHWM") - before) / MIB;
    };
    const up = await growth(() => streamed(sidecar.data, { method: "PUT" }, Array(CHUNKS).fill(CHUNK)));
    expect(uploaded).toBe(CHUNKS * CHUNK.length);
    let received = 0;
    const down = await growth(async () => {
      received = await downloaded();
    });
    expect(received).toBe(CHUNKS * CHUNK.length);
    expect(up, "upload").toBeLessThan(64);
    expect(down, "download").toBeLessThan(64);

    /** Counts without keeping: the test's own memory is not the point. */
    async function downloaded(): Promise<number> {
      const call = sidecar.data.duplex(CredentialService.method.proxyStream);
      call.write({ part: { case: "head", value: { accountId: "acme", method: "GET", path: "/file" } } });
      call.end();
      let bytes = 0;
      for await (const { part } of call as AsyncIterable<ProxyStreamResponse>)
        if (part.case === "chunk") bytes += part.value.length;
      return bytes;
    }
  }, 120_000);
});

async function download(response: ServerResponse): Promise<void> {
  for (let i = 0; i < CHUNKS; i += 1) if (!response.write(CHUNK)) await once(response, "drain");
  response.end();
}

describe("10,000 calls, whatever becomes of them,", () => {
  it("leave neither memory nor handles behind", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    await using at = await stage();
    await at.have("acme");
    at.api.answer = (response, { url }) => {
      if (url.endsWith("/reset")) response.socket?.resetAndDestroy();
      else if (url.endsWith("/cut"))
        response.writeHead(200, { "content-length": 99 }).write("half", () => response.destroy());
      else if (url.endsWith("/hang")) response.writeHead(200).write("begun");
      else response.end("{}");
    };
    const abandoned = async () => {
      const call = at.data.duplex(CredentialService.method.proxyStream);
      call.on("error", () => undefined);
      call.write({ part: { case: "head", value: { accountId: "acme", method: "GET", path: "/hang" } } });
      call.end();
      await once(call, "data");
      call.cancel();
    };
    const ways: readonly (() => Promise<unknown>)[] = [
      () => at.proxy(),
      () => at.proxy({ method: "POST", body: SMALL }),
      () => at.proxy({ path: "/reset" }),
      () => at.proxy({ path: "/cut" }),
      () => at.proxy({ path: "/../x" }),
      () => streamed(at.data, {}),
      () => streamed(at.data, { method: "PUT" }, [SMALL, SMALL]),
      () => streamed(at.data, { path: "/cut" }),
      () => streamed(at.data, { method: "PUT", path: "/reset" }, [SMALL]),
      abandoned,
    ];
    const run = async (calls: number) => {
      let next = 0;
      const worker = async () => {
        while (next < calls) {
          next += 1;
          await ways[next % ways.length]?.().catch(() => undefined);
        }
      };
      await Promise.all(Array.from({ length: 20 }, worker));
      at.api.seen.length = 0;
      await delay(200);
      collect();
    };
    await run(1_000);
    const handles = process.getActiveResourcesInfo().length;
    const heap = process.memoryUsage().heapUsed;
    await run(10_000);
    // On a busy machine the last connections take a while to be gone.
    const left = () => {
      collect();
      const heapMiB = (process.memoryUsage().heapUsed - heap) / MIB;
      return { heapMiB, handles: process.getActiveResourcesInfo().length - handles };
    };
    await vi.waitFor(() => expect(left().handles).toBeLessThan(20), { timeout: 30_000, interval: 500 });
    await vi.waitFor(() => expect(left().heapMiB).toBeLessThan(8), { timeout: 30_000, interval: 500 });
  }, 300_000);
});
