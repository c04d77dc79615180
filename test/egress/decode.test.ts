import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { decodeBody } from "../../src/egress/decode.ts";

const TEXT = Buffer.from("x".repeat(1000));

describe("decodeBody", () => {
  it.each([
    ["gzip", gzipSync(TEXT)],
    ["X-GZIP", gzipSync(TEXT)],
    ["br", brotliCompressSync(TEXT)],
    ["zstd", zstdCompressSync(TEXT)],
    ["deflate", deflateSync(TEXT)],
    ["deflate", deflateRawSync(TEXT)],
    ["gzip, br", brotliCompressSync(gzipSync(TEXT))],
    ["identity, gzip", gzipSync(TEXT)],
  ])("undoes %s up to exactly the limit", async (codings, body) => {
    expect(await decodeBody(body, codings, 1000)).toEqual({ kind: "decoded", body: TEXT });
    expect(await decodeBody(body, codings, 999)).toEqual({ kind: "failed", cause: "body_too_large" });
  });

  it.each(["", "identity", "compress", "gzip, compress", "gzip, gzip, gzip"])(
    "leaves a body in %j as it came",
    async (codings) => {
      expect(await decodeBody(TEXT, codings, 1000)).toEqual({ kind: "untouched" });
    },
  );

  it("leaves an empty body empty, whatever is said of it", async () => {
    expect(await decodeBody(Buffer.alloc(0), "gzip", 1000)).toEqual({ kind: "untouched" });
  });

  it("tells a broken body from a large one", async () => {
    const broken = { kind: "failed", cause: "body_undecodable" };
    expect(await decodeBody(TEXT, "gzip", 1000)).toEqual(broken);
    expect(await decodeBody(gzipSync(TEXT).subarray(0, 15), "gzip", 1000)).toEqual(broken);
  });

  it("holds no more than the limit of what is between two codings", async () => {
    const padded = gzipSync(Buffer.concat([gzipSync("x"), Buffer.alloc(1000)]));
    expect(await decodeBody(padded, "gzip, gzip", 1000)).toEqual({ kind: "failed", cause: "body_too_large" });
    expect(await decodeBody(padded, "gzip, gzip", 1100)).toEqual({ kind: "decoded", body: Buffer.from("x") });
  });

  it("keeps to the limit at zero", async () => {
    expect(await decodeBody(gzipSync("x"), "gzip", 0)).toEqual({ kind: "failed", cause: "body_too_large" });
    expect(await decodeBody(gzipSync(""), "gzip", 0)).toEqual({ kind: "decoded", body: Buffer.alloc(0) });
  });
});
