import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

// Check is on the way of every request of an app, and Envoy says much that is of no use here: what is read and written
// is done byte by byte, and a token goes from the opened answer into Envoy's without becoming a string.

/** What is read of a CheckRequest; the whole message fits too. */
export interface Asking {
  readonly attributes?:
    | {
        readonly contextExtensions: Readonly<Record<string, string>>;
        readonly request?: { readonly http?: AskedHttp | undefined } | undefined;
      }
    | undefined;
}

export interface AskedHttp {
  readonly method: string;
  readonly path: string;
  readonly host: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Instead of `headers`, where Envoy sends them raw. */
  readonly headerMap?: { readonly headers: readonly AskedHeader[] } | undefined;
}

interface AskedHeader {
  readonly key: string;
  readonly value: string;
  readonly rawValue: Uint8Array;
}

/** Throws when the bytes are not a CheckRequest's. */
export function readAsking(bytes: Uint8Array): Asking {
  const reader = new BinaryReader(bytes);
  const contextExtensions: Record<string, string> = {};
  const http = { method: "", path: "", host: "", headers: {} as Record<string, string> };
  const raw: AskedHeader[] = [];
  let hasAttributes = false;
  let hasHttp = false;
  const inHttp: Take = {
    2: () => (http.method = reader.string()),
    3: () => readEntry(reader, http.headers),
    4: () => (http.path = reader.string()),
    5: () => (http.host = reader.string()),
    13: () => within(reader, { 1: () => raw.push(readHeader(reader)) }),
  };
  const inRequest: Take = {
    2: () => {
      hasHttp = true;
      within(reader, inHttp);
    },
  };
  const inAttributes: Take = {
    4: () => within(reader, inRequest),
    10: () => readEntry(reader, contextExtensions),
  };
  until(reader, bytes.length, {
    1: () => {
      hasAttributes = true;
      within(reader, inAttributes);
    },
  });
  if (!hasAttributes) return {};
  const asked = raw.length === 0 ? http : { ...http, headerMap: { headers: raw } };
  return { attributes: { contextExtensions, request: hasHttp ? { http: asked } : {} } };
}

/** By field number; all of them are length-delimited. */
type Take = Readonly<Record<number, () => unknown>>;

function within(reader: BinaryReader, take: Take): void {
  const length = reader.uint32();
  until(reader, reader.pos + length, take);
}

function until(reader: BinaryReader, end: number, take: Take): void {
  while (reader.pos < end) {
    const [field, type] = reader.tag();
    const taker = type === WireType.LengthDelimited ? take[field] : undefined;
    if (taker === undefined) reader.skip(type, field);
    else taker();
  }
  if (reader.pos !== end || end > reader.len) throw new Error("a message ends within a field");
}

function readEntry(reader: BinaryReader, into: Record<string, string>): void {
  let key = "";
  let value = "";
  within(reader, { 1: () => (key = reader.string()), 2: () => (value = reader.string()) });
  // `__proto__` as any other name.
  Object.defineProperty(into, key, { value, enumerable: true, configurable: true, writable: true });
}

function readHeader(reader: BinaryReader): AskedHeader {
  let key = "";
  let value = "";
  let rawValue: Uint8Array = new Uint8Array();
  within(reader, {
    1: () => (key = reader.string()),
    2: () => (value = reader.string()),
    3: () => (rawValue = reader.bytes()),
  });
  return { key, value, rawValue };
}

/** Of an opened GetTokenResponse. */
export interface Opened {
  /** In lower case, and views into the answer. */
  readonly headers: readonly (readonly [string, Uint8Array])[];
  readonly queryParameters: readonly (readonly [string, string])[];
  readonly revision: string;
}

export function readOpened(answer: Uint8Array): Opened {
  const reader = new BinaryReader(answer);
  const headers: [string, Uint8Array][] = [];
  const queryParameters: [string, string][] = [];
  let revision = "";
  until(reader, answer.length, {
    4: () => {
      let key = "";
      let value: Uint8Array = new Uint8Array();
      within(reader, { 1: () => (key = reader.string()), 2: () => (value = reader.bytes()) });
      headers.push([key.toLowerCase(), value]);
    },
    5: () => {
      const parameter: Record<string, string> = {};
      readEntry(reader, parameter);
      queryParameters.push(...Object.entries(parameter));
    },
    9: () => (revision = reader.string()),
  });
  return { headers, queryParameters, revision };
}

/** One length-delimited field; its number is below 16. */
export function delimited(field: number, parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const bytes = Buffer.allocUnsafe(length + MAX_HEAD_BYTES);
  bytes[0] = (field << 3) | WireType.LengthDelimited;
  let at = 1;
  for (let rest = length; ; rest >>>= 7) {
    bytes[at] = rest > 0x7f ? (rest & 0x7f) | 0x80 : rest;
    at += 1;
    if (rest <= 0x7f) break;
  }
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes.subarray(0, at);
}

/** A tag and a length of 32 bits. */
const MAX_HEAD_BYTES = 6;

export function text(field: number, value: string): Uint8Array {
  return delimited(field, [Buffer.from(value)]);
}
