import { Readable, type Transform } from "node:stream";
import { promisify } from "node:util";
import {
  brotliDecompress,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
  gunzip,
  inflate,
  inflateRaw,
  zstdDecompress,
} from "node:zlib";
import { brokenOff } from "./broken.ts";

/** The decoded bytes, or why there are none. `untouched`: the coding is unknown and the body is as it came. */
export type Decoded =
  | { readonly kind: "decoded"; readonly body: Buffer }
  | { readonly kind: "untouched" }
  | { readonly kind: "failed"; readonly cause: "body_too_large" | "body_undecodable" };

type Whole = (body: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>;

interface Decoder {
  readonly whole: Whole;
  /** `first`: the beginning of what is decoded. */
  readonly stream: (first: Buffer) => Transform;
}

const asZlib: Whole = promisify(inflate);
const asRawDeflate: Whole = promisify(inflateRaw);
const GZIP: Decoder = { whole: promisify(gunzip), stream: () => createGunzip() };

// "deflate" means zlib (RFC 9110 §8.4.1.2), yet some servers send it bare.
const isZlib = (first: Buffer) => ((first[0] ?? 0) & 0x0f) === 8;

const DECODERS: ReadonlyMap<string, Decoder> = new Map<string, Decoder>([
  ["gzip", GZIP],
  ["x-gzip", GZIP],
  [
    "deflate",
    {
      whole: (body, options) => (isZlib(body) ? asZlib : asRawDeflate)(body, options),
      stream: (first) => (isZlib(first) ? createInflate() : createInflateRaw()),
    },
  ],
  ["br", { whole: promisify(brotliDecompress), stream: () => createBrotliDecompress() }],
  ["zstd", { whole: promisify(zstdDecompress), stream: () => createZstdDecompress() }],
]);

// Nobody has a use for more, and each coding multiplies the work.
const MAX_CODINGS = 2;

/** The decoders of a Content-Encoding value, in the order of their work; undefined when there is nothing to undo. */
function decodersOf(codings: string): readonly Decoder[] | undefined {
  const names = codings
    .toLowerCase()
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "" && name !== "identity");
  const decoders = names.map((name) => DECODERS.get(name)).filter((decoder) => decoder !== undefined);
  const known = decoders.length === names.length && names.length > 0 && names.length <= MAX_CODINGS;
  return known ? decoders.reverse() : undefined;
}

/** Undoes `codings` (a Content-Encoding value), never holding more than `maxBytes` of any stage. */
export async function decodeBody(body: Buffer, codings: string, maxBytes: number): Promise<Decoded> {
  const decoders = decodersOf(codings);
  if (decoders === undefined || body.length === 0) return { kind: "untouched" };
  let plain = body;
  for (const decoder of decoders) {
    try {
      plain = await decoder.whole(plain, { maxOutputLength: Math.max(1, maxBytes) });
    } catch (error) {
      const tooLarge = error instanceof RangeError;
      return { kind: "failed", cause: tooLarge ? "body_too_large" : "body_undecodable" };
    }
  }
  return plain.length > maxBytes
    ? { kind: "failed", cause: "body_too_large" }
    : { kind: "decoded", body: plain };
}

/** As `decodeBody`, while it comes; undefined when there is nothing to undo. Reading throws what the body throws. */
export function decodeStream(
  body: AsyncIterable<Buffer>,
  codings: string,
): AsyncIterable<Buffer> | undefined {
  return decodersOf(codings)?.reduce(decodedBy, body);
}

async function* decodedBy(body: AsyncIterable<Buffer>, decoder: Decoder): AsyncGenerator<Buffer> {
  const rest = body[Symbol.asyncIterator]();
  const first = await rest.next();
  if (first.done === true) return; // no bytes at all are no bytes decoded
  async function* whole(): AsyncGenerator<Buffer> {
    yield first.value;
    yield* { [Symbol.asyncIterator]: () => rest };
  }
  const source = Readable.from(whole(), { objectMode: false });
  const transform = decoder.stream(first.value);
  let broken: Error | undefined;
  source.once("error", (error) => {
    broken = error;
    transform.destroy(error);
  });
  try {
    yield* source.pipe(transform);
  } catch (error) {
    throw broken ?? brokenOff("body_undecodable", error);
  } finally {
    source.destroy();
    transform.destroy();
  }
}
