import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { durationMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { invalid } from "../errors.ts";

/** The only place where times change between the wire's messages and our milliseconds. */
export function timestamp(ms: number): Timestamp {
  return timestampFromMs(Math.round(ms));
}

/** An optional time as an optional message member. */
export function time<K extends string>(name: K, ms: number | undefined): { readonly [P in K]?: Timestamp } {
  return (ms === undefined ? {} : { [name]: timestamp(ms) }) as { readonly [P in K]?: Timestamp };
}

const FIRST_SECOND = -62_135_596_800n;
const LAST_SECOND = 253_402_300_799n;
const NANOS = 1_000_000_000;

/** INVALID_REQUEST when it is no time of the years 1 to 9999, the range of google.protobuf.Timestamp. */
export function msOf(field: string, at: Timestamp | undefined): number | undefined {
  if (at === undefined) return undefined;
  const { seconds, nanos } = at;
  const isTime = seconds >= FIRST_SECOND && seconds <= LAST_SECOND && nanos >= 0 && nanos < NANOS;
  if (!isTime) throw invalid(field, "a time between the years 1 and 9999");
  return timestampMs(at);
}

/** Undefined is zero. INVALID_REQUEST when it is negative or longer than `maxMs`. */
export function durationOf(field: string, value: Duration | undefined, maxMs: number): number {
  const ms = value === undefined ? 0 : durationMs(value);
  if (ms >= 0 && ms <= maxMs) return ms;
  throw invalid(field, `between 0 and ${maxMs / 1_000} s`);
}

const DEFAULT_PAGE = 50;
const MAX_PAGE = 1_000;

/** 50 when zero. INVALID_REQUEST when negative; at most 1000 whatever is asked for. */
export function pageSize(asked: number): number {
  if (asked < 0) throw invalid("page_size", "zero or more");
  return asked === 0 ? DEFAULT_PAGE : Math.min(asked, MAX_PAGE);
}

/** A store's place in a listing, as an opaque token. */
export function pageToken(after: string | undefined): string {
  return after === undefined ? "" : Buffer.from(after).toString("base64url");
}

export function afterOf(token: string): string {
  return Buffer.from(token, "base64url").toString("utf8");
}
