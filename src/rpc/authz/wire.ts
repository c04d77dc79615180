import { BinaryReader } from "@bufbuild/protobuf/wire";
import { readEntry, type Take, until, within } from "../message-bytes.ts";

// Envoy says much that is of no use here, and a token goes from the opened answer into Envoy's without becoming a string.

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
