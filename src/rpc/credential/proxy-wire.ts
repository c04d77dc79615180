import { toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { RateLimitSchema } from "../../gen/keyturn/v1/errors_pb.js";
import type { Forwarded, HttpFields } from "../../tokens/forwarding.ts";
import { delimited, MAX_HEAD_BYTES, readEntry, until, writeHead, writeVarint } from "../message-bytes.ts";
import { rateLimitMessage } from "../rate-limit.ts";

/** Of an opened GetTokenResponse, what a call is made with. */
export interface TokenInUse {
  readonly headers: Readonly<Record<string, string>>;
  readonly queryParameters: Readonly<Record<string, string>>;
  readonly baseUrl: string;
  readonly revision: string;
}

export function readToken(answer: Uint8Array): TokenInUse {
  const reader = new BinaryReader(answer);
  const headers: Record<string, string> = {};
  const queryParameters: Record<string, string> = {};
  let baseUrl = "";
  let revision = "";
  until(reader, answer.length, {
    4: () => readEntry(reader, headers),
    5: () => readEntry(reader, queryParameters),
    6: () => (baseUrl = reader.string()),
    9: () => (revision = reader.string()),
  });
  return { headers, queryParameters, baseUrl, revision };
}

// Field numbers of ProxyResponse and HttpField.
const STATUS = 1;
const HEADERS = 2;
const BODY = 3;
const RATE_LIMIT = 4;
const NAME = 1;
const VALUE = 2;

const NOTHING: Uint8Array = new Uint8Array();

/** The bytes of a ProxyResponse. */
export function proxyResponse({ status, headers, rateLimit }: Forwarded, body = NOTHING): Buffer {
  const limits = rateLimit && toBinary(RateLimitSchema, rateLimitMessage(rateLimit));
  const room = roomOf(headers) + body.length + (limits?.length ?? 0);
  const bytes = Buffer.allocUnsafe(room + 3 * MAX_HEAD_BYTES);
  bytes[0] = (STATUS << 3) | WireType.Varint;
  let at = writeVarint(bytes, 1, status);
  at = writeFields(bytes, at, HEADERS, headers);
  if (body.length > 0) at = writeBytes(bytes, at, BODY, body);
  if (limits !== undefined) at = writeBytes(bytes, at, RATE_LIMIT, limits);
  return bytes.subarray(0, at);
}

// Field numbers of ProxyStreamResponse and HttpTrailers.
const HEAD = 1;
const CHUNK = 2;
const TRAILERS = 3;
const TRAILER = 1;

/** The bytes of a ProxyStreamResponse with an answer's head. */
export function streamedHead(answer: Forwarded): Uint8Array {
  return delimited(HEAD, [proxyResponse(answer)]);
}

/** With a part of an answer's body. */
export function streamedChunk(chunk: Uint8Array): Uint8Array {
  return delimited(CHUNK, [chunk]);
}

/** With what followed an answer's body. */
export function streamedTrailers(trailers: HttpFields): Uint8Array {
  const bytes = Buffer.allocUnsafe(roomOf(trailers));
  return delimited(TRAILERS, [bytes.subarray(0, writeFields(bytes, 0, TRAILER, trailers))]);
}

/** At most what `fields` take as HttpFields. */
function roomOf(fields: HttpFields): number {
  let room = 0;
  for (const [name, value] of fields)
    room += 3 * MAX_HEAD_BYTES + Buffer.byteLength(name) + Buffer.byteLength(value);
  return room;
}

/** Returns where the last one ends. */
function writeFields(bytes: Buffer, from: number, field: number, fields: HttpFields): number {
  let at = from;
  for (const [name, value] of fields) {
    const nameBytes = Buffer.byteLength(name);
    const valueBytes = Buffer.byteLength(value);
    at = writeHead(bytes, at, field, headBytes(nameBytes) + nameBytes + headBytes(valueBytes) + valueBytes);
    at = writeHead(bytes, at, NAME, nameBytes);
    at += bytes.write(name, at);
    at = writeHead(bytes, at, VALUE, valueBytes);
    at += bytes.write(value, at);
  }
  return at;
}

function writeBytes(bytes: Buffer, from: number, field: number, content: Uint8Array): number {
  const at = writeHead(bytes, from, field, content.length);
  bytes.set(content, at);
  return at + content.length;
}

/** Of a tag and this length. */
function headBytes(length: number): number {
  let bytes = 2;
  for (let rest = length >>> 7; rest > 0; rest >>>= 7) bytes += 1;
  return bytes;
}
