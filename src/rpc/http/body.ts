import {
  type DescField,
  type DescMessage,
  fromJson,
  fromJsonString,
  type JsonValue,
  ScalarType,
} from "@bufbuild/protobuf";
import { invalid, KeyturnError } from "../../errors.ts";
import { toConnectError } from "./errors.ts";

/** As Connect reads, so that a newer client's fields do no harm. */
const READING = { ignoreUnknownFields: true };

/** What gRPC and its kin put around a message, and a few more. */
const FRAMING_BYTES = 16;

/** A request's bytes as they come; throws BODY_TOO_LARGE once they are more than a message of `maxBytes` takes. */
export async function* limited(
  body: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes + FRAMING_BYTES) throw toConnectError(tooLarge(maxBytes));
    yield chunk;
  }
}

const HEAD_BYTES = 5;

/** A stream of messages, each with a head of a flag and its length; BODY_TOO_LARGE at the first that is too long. */
export async function* limitedMessages(
  body: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<Uint8Array> {
  const head = Buffer.alloc(HEAD_BYTES);
  let headBytes = 0;
  let leftBytes = 0;
  for await (const chunk of body) {
    for (let at = 0; at < chunk.byteLength; ) {
      if (leftBytes === 0) {
        head[headBytes] = chunk[at] ?? 0;
        headBytes += 1;
        at += 1;
        if (headBytes < HEAD_BYTES) continue;
        headBytes = 0;
        leftBytes = head.readUInt32BE(1);
        if (leftBytes > maxBytes) throw toConnectError(tooLarge(maxBytes));
        continue;
      }
      const taken = Math.min(leftBytes, chunk.byteLength - at);
      leftBytes -= taken;
      at += taken;
    }
    yield chunk;
  }
}

/** A whole JSON request; throws INVALID_REQUEST, naming the field, when it is not a message of this kind. */
export async function* readable(
  body: AsyncIterable<Uint8Array>,
  input: DescMessage,
): AsyncGenerator<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const text = bytes.toString("utf8");
  try {
    fromJsonString(input, text, READING);
  } catch (cause) {
    throw toConnectError(unreadable(input, text, cause));
  }
  yield bytes;
}

function tooLarge(maxBytes: number): KeyturnError {
  return new KeyturnError("BODY_TOO_LARGE", `A request may have at most ${maxBytes} bytes.`, {
    metadata: { limit: String(maxBytes) },
  });
}

function unreadable(input: DescMessage, text: string, cause: unknown): KeyturnError {
  const why = cause instanceof Error ? cause.message : "";
  const json = parsed(text);
  if (json === undefined) {
    const where = /line [0-9]+ column [0-9]+/.exec(why)?.[0];
    return invalid("body", where === undefined ? "JSON" : `JSON; that of ${where} is not`);
  }
  const { path, field } = faultIn(input, json);
  if (path === "") return invalid("body", `a JSON object of a ${input.typeName}`);
  // What was sent may be a secret, so only what was expected is said.
  const expected = /expected [a-z0-9 ()]+/i.exec(why)?.[0];
  return invalid(path, expected ?? `${kindOf(field)}, in proto3 JSON`);
}

function kindOf(field: DescField | undefined): string {
  if (field?.message !== undefined) return `a ${field.message.typeName}`;
  return field?.scalar === ScalarType.BYTES ? "base64" : "a value of this field";
}

function parsed(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Where the first member lies that the message cannot take; empty when it is the whole. */
function faultIn(desc: DescMessage, json: JsonValue): { readonly path: string; readonly field?: DescField } {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return { path: "" };
  for (const [name, value] of Object.entries(json)) {
    if (canRead(desc, { [name]: value })) continue;
    const field = desc.fields.find((each) => each.jsonName === name || each.name === name);
    if (field === undefined) return { path: name };
    const at = field.fieldKind === "list" ? faultyItem(desc, name, value) : undefined;
    const here = at === undefined ? name : `${name}[${at}]`;
    const inner = Array.isArray(value) && at !== undefined ? value[at] : value;
    const isMessage = field.fieldKind === "message" || at !== undefined;
    const within = isMessage && field.message ? faultIn(field.message, inner ?? null) : { path: "" };
    return within.path === "" ? { path: here, field } : { ...within, path: `${here}.${within.path}` };
  }
  return { path: "" };
}

/** Undefined when it is the list itself that cannot be read. */
function faultyItem(desc: DescMessage, name: string, value: JsonValue): number | undefined {
  if (!Array.isArray(value)) return undefined;
  const at = value.findIndex((item) => !canRead(desc, { [name]: [item] }));
  return at === -1 ? undefined : at;
}

function canRead(desc: DescMessage, json: JsonValue): boolean {
  try {
    fromJson(desc, json, READING);
    return true;
  } catch {
    return false;
  }
}
