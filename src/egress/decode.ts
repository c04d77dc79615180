import { promisify } from "node:util";
import { brotliDecompress, gunzip, inflate, inflateRaw, zstdDecompress } from "node:zlib";

/** The decoded bytes, or why there are none. `untouched`: the coding is unknown and the body is as it came. */
export type Decoded =
  | { readonly kind: "decoded"; readonly body: Buffer }
  | { readonly kind: "untouched" }
  | { readonly kind: "failed"; readonly cause: "body_too_large" | "body_undecodable" };

type Decoder = (body: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>;

const asGzip: Decoder = promisify(gunzip);
const asZlib: Decoder = promisify(inflate);
const asRawDeflate: Decoder = promisify(inflateRaw);

// "deflate" means zlib (RFC 9110 §8.4.1.2), yet some servers send it bare.
const asDeflate: Decoder = (body, options) =>
  ((body[0] ?? 0) & 0x0f) === 8 ? asZlib(body, options) : asRawDeflate(body, options);

const DECODERS: ReadonlyMap<string, Decoder> = new Map<string, Decoder>([
  ["gzip", asGzip],
  ["x-gzip", asGzip],
  ["deflate", asDeflate],
  ["br", promisify(brotliDecompress)],
  ["zstd", promisify(zstdDecompress)],
]);

// Nobody has a use for more, and each coding multiplies the work.
const MAX_CODINGS = 2;

/** Undoes `codings` (a Content-Encoding value), never holding more than `maxBytes` of any stage. */
export async function decodeBody(body: Buffer, codings: string, maxBytes: number): Promise<Decoded> {
  const names = codings
    .toLowerCase()
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "" && name !== "identity");
  if (names.length === 0 || body.length === 0) return { kind: "untouched" };
  const decoders = names.map((name) => DECODERS.get(name)).filter((decoder) => decoder !== undefined);
  if (decoders.length !== names.length || names.length > MAX_CODINGS) return { kind: "untouched" };
  let plain = body;
  for (const decoder of decoders.reverse()) {
    try {
      plain = await decoder(plain, { maxOutputLength: Math.max(1, maxBytes) });
    } catch (error) {
      const tooLarge = error instanceof RangeError;
      return { kind: "failed", cause: tooLarge ? "body_too_large" : "body_undecodable" };
    }
  }
  return plain.length > maxBytes
    ? { kind: "failed", cause: "body_too_large" }
    : { kind: "decoded", body: plain };
}
