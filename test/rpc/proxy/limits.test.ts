import { once } from "node:events";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { fromBinary } from "@bufbuild/protobuf";
import type { ServiceError } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../../src/gen/google/rpc/status_pb.js";
import { CredentialService } from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import { reasonOf } from "../../e2e/harness.ts";
import { rawServer } from "./raw-server.ts";
import { headerOf, type Stage, stage, streamed } from "./stage.ts";

const MIB = 1024 * 1024;

/** ErrorInfo's reason and what its metadata say of `names`. */
function told(...names: string[]) {
  return (error: ServiceError) => {
    const [details] = error.metadata.get("grpc-status-details-bin");
    const { details: parts } = fromBinary(StatusSchema, details as Buffer);
    const info = parts.find(({ typeUrl }) => typeUrl.endsWith("ErrorInfo"));
    const { metadata } = fromBinary(ErrorInfoSchema, info?.value ?? new Uint8Array());
    return [reasonOf(error), ...names.map((name) => metadata[name])].join(" ");
  };
}

/** A TCP port in place of the API; `emptied` resolves when nobody is connected any more. */
async function rawApi(onData: (socket: Socket) => void) {
  let visits = 0;
  const { port, open } = await rawServer((socket) => {
    visits += 1;
    socket.once("data", () => onData(socket));
  });
  const until = async (condition: () => boolean) => {
    while (!condition()) await delay(5);
  };
  return {
    port,
    reached: () => until(() => visits > 0),
    emptied: () => until(() => visits > 0 && open.size === 0),
  };
}

const having = (at: Stage, port: number) => at.have("acme", { fields: { api: String(port) } });

describe("sizes", () => {
  it("of a request beyond the limit are BODY_TOO_LARGE, and a stream has none", async () => {
    await using at = await stage({ flags: { "limits.max_request_bytes": "65536" } });
    await at.have("acme");
    const post = (bytes: number) => at.proxy({ method: "POST", body: Buffer.alloc(bytes) });
    expect((await post(65_000)).status).toBe(200);
    expect(await post(66_000).catch(told("limit"))).toBe("BODY_TOO_LARGE 65536");
    expect(at.api.seen).toHaveLength(1);
    const chunks = Array(8).fill(Buffer.alloc(32_768));
    expect((await streamed(at.data, { method: "POST" }, chunks)).head.status).toBe(200);
    expect(at.api.seen[1]?.body.length).toBe(262_144);
  });

  it("of an answer beyond the limit are BODY_TOO_LARGE, decoded too, and a stream has none", async () => {
    await using at = await stage({ flags: { "limits.max_response_bytes": "65536" } });
    await at.have("acme");
    const answer = (body: Buffer, coding?: string) => {
      at.api.answer = (response) => {
        if (coding !== undefined) response.setHeader("content-encoding", coding);
        response.end(body);
      };
    };
    answer(Buffer.alloc(65_536));
    expect((await at.proxy()).body.length).toBe(65_536);
    answer(Buffer.alloc(65_537));
    expect(await at.proxy().catch(told("limit"))).toBe("BODY_TOO_LARGE 65536");
    answer(gzipSync(Buffer.alloc(MIB)), "gzip");
    expect(await at.proxy().catch(told("limit"))).toBe("BODY_TOO_LARGE 65536");
    expect((await streamed(at.data, {})).body.length).toBe(MIB);
  });

  it("fit a gRPC client's default limit when they are as large as ours", async () => {
    await using at = await stage();
    await at.have("acme");
    at.api.answer = (response) => {
      for (let i = 0; i < 20; i += 1) response.setHeader(`x-${i}`, "y".repeat(1_000));
      response.end(Buffer.alloc(4_128_768));
    };
    expect((await at.proxy()).body.length).toBe(4_128_768);
  });
});

describe("codings", () => {
  it("pass as they come to who names them, and are undone for everybody else", async () => {
    await using at = await stage();
    await at.have("acme");
    const asked: unknown[] = [];
    at.api.answer = (response, { rawHeaders }) => {
      const name = rawHeaders.findIndex((header) => header.toLowerCase() === "accept-encoding");
      asked.push(rawHeaders[name + 1]);
      response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync("plain"));
    };
    const headers = [{ name: "Accept-Encoding", value: "gzip, br" }];
    const [kept, plain] = [await at.proxy({ headers }), await at.proxy()];
    expect([headerOf(kept, "content-encoding"), Buffer.from(kept.body).equals(gzipSync("plain"))]).toEqual([
      "gzip",
      true,
    ]);
    expect([headerOf(plain, "content-encoding"), Buffer.from(plain.body).toString()]).toEqual([
      undefined,
      "plain",
    ]);
    expect((await streamed(at.data, { headers })).body.equals(gzipSync("plain"))).toBe(true);
    expect((await streamed(at.data, {})).body.toString()).toBe("plain");
    expect(asked).toEqual(["gzip, br", "identity", "gzip, br", "identity"]);
  });
});

describe("time", () => {
  it("ends with the caller's deadline, and the request at the provider with it", async () => {
    await using at = await stage();
    const silent = await rawApi(() => undefined);
    await having(at, silent.port);
    await expect(at.proxy({}, { deadlineMs: 300 })).rejects.toMatchObject({ code: 4 });
    await silent.emptied();
    await expect(streamed(at.data, {}, [], { deadlineMs: 300 })).rejects.toMatchObject({ code: 4 });
    await silent.emptied();
  });

  it("is the configured wait without a deadline", async () => {
    await using at = await stage({ flags: { "limits.max_wait": "300ms" } });
    const silent = await rawApi(() => undefined);
    await having(at, silent.port);
    expect(await at.proxy().catch(told("sent"))).toBe("WAIT_TIMED_OUT maybe");
    expect(await streamed(at.data, {}).catch(told("sent"))).toBe("WAIT_TIMED_OUT maybe");
    await silent.emptied();
  });

  it("of a caller who cancels is over at the provider too, before the answer and in the middle of it", async () => {
    await using at = await stage();
    for (const answer of ["", "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\nhalf"]) {
      const api = await rawApi((socket) => void (answer !== "" && socket.write(answer)));
      const id = `a${answer.length}`;
      await at.have(id, { fields: { api: String(api.port) } });
      const call = at.data.duplex(CredentialService.method.proxyStream);
      call.on("error", () => undefined);
      call.write({ part: { case: "head", value: { accountId: id, method: "GET", path: "/me" } } });
      call.end();
      await api.reached();
      if (answer !== "") await once(call, "data");
      call.cancel();
      await api.emptied();
    }
  });
});

describe("a provider that fails", () => {
  it.each([
    ["is not there", undefined, "PROVIDER_UNAVAILABLE connection_refused no"],
    ["hangs up", (socket: Socket) => void socket.end(), "PROVIDER_UNAVAILABLE connection_closed maybe"],
    [
      "resets",
      (socket: Socket) => void socket.resetAndDestroy(),
      "PROVIDER_UNAVAILABLE connection_reset maybe",
    ],
    [
      "babbles",
      (socket: Socket) => void socket.end("HTTP/1.1 abc\r\n\r\n"),
      "PROVIDER_UNAVAILABLE malformed_answer maybe",
    ],
  ])("and %s is UNAVAILABLE, and says whether it may have seen the request", async (_how, onData, wanted) => {
    await using at = await stage();
    const api = await rawApi(onData ?? (() => undefined));
    await having(at, onData === undefined ? 10 : api.port);
    expect(await at.proxy().catch(told("cause", "sent"))).toBe(wanted);
    expect(await streamed(at.data, {}).catch(told("cause", "sent"))).toBe(wanted);
  });

  it("and breaks off in the middle ends a stream with UNAVAILABLE, after what had come", async () => {
    await using at = await stage();
    const api = await rawApi((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\nhalf", () =>
        setTimeout(() => socket.resetAndDestroy(), 50),
      );
    });
    await having(at, api.port);
    const call = at.data.duplex(CredentialService.method.proxyStream);
    const parts: unknown[] = [];
    call.on("data", ({ part }) => parts.push(part.case));
    call.write({ part: { case: "head", value: { accountId: "acme", method: "GET", path: "/me" } } });
    call.end();
    const [error] = await once(call, "error");
    expect(told("cause")(error)).toBe("PROVIDER_UNAVAILABLE connection_reset");
    expect(parts).toEqual(["head", "chunk"]);
  });
});

/** Waits until `count` stands still. */
async function settled(count: () => number): Promise<void> {
  for (let before = -1; before !== count(); await delay(300)) before = count();
}

describe("pressure", () => {
  it("of a slow reader reaches the provider", async () => {
    await using at = await stage();
    await at.have("acme");
    let written = 0;
    at.api.answer = async (response) => {
      const closed = once(response, "close");
      while (written < 64 * MIB && !response.destroyed) {
        written += 65_536;
        if (!response.write(Buffer.alloc(65_536))) await Promise.race([once(response, "drain"), closed]);
      }
      response.end();
    };
    const call = at.data.duplex(CredentialService.method.proxyStream);
    call.on("error", () => undefined);
    call.write({ part: { case: "head", value: { accountId: "acme", method: "GET", path: "/me" } } });
    call.end();
    await once(call, "data");
    call.pause();
    await settled(() => written);
    expect(written).toBeLessThan(24 * MIB);
    call.cancel();
  });

  it("of a slow provider reaches the caller", async () => {
    await using at = await stage();
    const api = await rawApi((socket) => void socket.pause());
    await having(at, api.port);
    const call = at.data.duplex(CredentialService.method.proxyStream);
    call.on("error", () => undefined);
    call.write({ part: { case: "head", value: { accountId: "acme", method: "PUT", path: "/me" } } });
    let taken = 0;
    const chunk = { part: { case: "chunk" as const, value: Buffer.alloc(65_536) } };
    const push = () => {
      if (taken >= 64 * MIB || call.writableEnded) return;
      call.write(chunk, () => {
        taken += 65_536;
        push();
      });
    };
    push();
    await api.reached();
    await settled(() => taken);
    expect(taken).toBeLessThan(24 * MIB);
    call.cancel();
  });
});
