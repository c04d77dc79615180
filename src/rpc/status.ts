import { create, type DescMessage, type Message, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { KeyturnError, type Reason } from "../errors.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../gen/google/rpc/status_pb.js";
import { RateLimitSchema } from "../gen/keyturn/v1/errors_pb.js";
import { rateLimitMessage } from "./rate-limit.ts";

const DOMAIN = "keyturn.dev";

// Exhaustive on purpose: a new Reason does not compile until it has a code.
const CODE: Readonly<Record<Reason, status>> = {
  ACCOUNT_NOT_FOUND: status.NOT_FOUND,
  PROVIDER_NOT_FOUND: status.NOT_FOUND,
  CLIENT_NOT_FOUND: status.NOT_FOUND,
  ACCOUNT_PENDING: status.FAILED_PRECONDITION,
  ACCOUNT_DISABLED: status.FAILED_PRECONDITION,
  REAUTHORIZATION_REQUIRED: status.FAILED_PRECONDITION,
  CLIENT_MISCONFIGURED: status.FAILED_PRECONDITION,
  CLIENT_ON_HOLD: status.FAILED_PRECONDITION,
  IDENTITY_MISMATCH: status.FAILED_PRECONDITION,
  TOKEN_NOT_PORTABLE: status.FAILED_PRECONDITION,
  PROVIDER_UNAVAILABLE: status.UNAVAILABLE,
  REFRESH_UNCERTAIN: status.UNAVAILABLE,
  STORE_UNAVAILABLE: status.UNAVAILABLE,
  KEK_UNAVAILABLE: status.UNAVAILABLE,
  SHUTTING_DOWN: status.UNAVAILABLE,
  PROVIDER_RATE_LIMITED: status.RESOURCE_EXHAUSTED,
  CALLER_RATE_LIMITED: status.RESOURCE_EXHAUSTED,
  SUBSCRIBER_TOO_SLOW: status.RESOURCE_EXHAUSTED,
  BODY_TOO_LARGE: status.RESOURCE_EXHAUSTED,
  STORE_FULL: status.RESOURCE_EXHAUSTED,
  STATE_DISK_FULL: status.RESOURCE_EXHAUSTED,
  INVALID_REQUEST: status.INVALID_ARGUMENT,
  AUTHORIZATION_STATE_INVALID: status.INVALID_ARGUMENT,
  CALLER_NOT_ALLOWED: status.PERMISSION_DENIED,
  DESTINATION_NOT_ALLOWED: status.PERMISSION_DENIED,
  AUTHORIZATION_DENIED: status.PERMISSION_DENIED,
  CALLER_UNKNOWN: status.UNAUTHENTICATED,
  CURSOR_EXPIRED: status.OUT_OF_RANGE,
  REVISION_MISMATCH: status.ABORTED,
  ACCOUNT_ALREADY_EXISTS: status.ALREADY_EXISTS,
  WAIT_TIMED_OUT: status.DEADLINE_EXCEEDED,
  INTERNAL_ERROR: status.INTERNAL,
  SEAL_INVALID: status.INTERNAL,
  KEK_MISMATCH: status.INTERNAL,
};

/** What a transient error says when it knows no better time. */
const DEFAULT_RETRY_MS = 1_000;

/** Anything that is not ours is a bug: its text may hold anything, so it stays in the log. */
export function toKeyturnError(error: unknown): KeyturnError {
  if (error instanceof KeyturnError) return error;
  return new KeyturnError("INTERNAL_ERROR", "Something went wrong inside the sidecar; its log says what.", {
    cause: error,
  });
}

export function codeOf(reason: Reason): status {
  return CODE[reason];
}

/** When asking again makes sense; undefined when it never does. */
export function retryAfterMsOf({ reason, retryAfterMs }: KeyturnError): number | undefined {
  const transient = CODE[reason] === status.UNAVAILABLE || CODE[reason] === status.RESOURCE_EXHAUSTED;
  return retryAfterMs ?? (transient ? DEFAULT_RETRY_MS : undefined);
}

/** A google.rpc detail or one of our own, not yet packed. */
export interface Detail {
  readonly desc: DescMessage;
  readonly value: Message;
}

// An error travels in the headers that end a call. HTTP/2 peers give those 8 to 16 KiB and drop the whole connection
// over more, with every other call on it; what a caller sent may be repeated in them.
const MAX_TEXT = 1_024;
const MAX_VALUE = 256;
const MAX_ENTRIES = 16;

/** Cut to so many characters, whole ones, and without half of a surrogate pair. */
function clip(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most).toWellFormed()}…`;
}

function clipped(error: KeyturnError) {
  const metadata = Object.entries(error.metadata)
    .slice(0, MAX_ENTRIES)
    .map(([name, value]) => [clip(name, MAX_VALUE), clip(value, MAX_VALUE)] as const);
  const violations = error.violations.slice(0, MAX_ENTRIES).map(({ field, description }) => ({
    field: clip(field, MAX_VALUE),
    description: clip(description, MAX_VALUE),
  }));
  return { metadata: Object.fromEntries(metadata), violations };
}

/** What every error carries: ErrorInfo, and what else helps the caller. */
export function detailsOf(error: KeyturnError): readonly Detail[] {
  const { metadata, violations: fieldViolations } = clipped(error);
  const details: Detail[] = [];
  const add = <D extends DescMessage>(desc: D, init: MessageInitShape<D>) =>
    details.push({ desc, value: create(desc, init) });
  add(ErrorInfoSchema, { reason: error.reason, domain: DOMAIN, metadata });
  const retryAfterMs = retryAfterMsOf(error);
  if (retryAfterMs !== undefined)
    add(RetryInfoSchema, { retryDelay: durationFromMs(Math.ceil(retryAfterMs)) });
  if (fieldViolations.length > 0) add(BadRequestSchema, { fieldViolations });
  if (error.rateLimit !== undefined) {
    details.push({ desc: RateLimitSchema, value: rateLimitMessage(error.rateLimit) });
  }
  return details;
}

/** How an error leaves over gRPC: code, sentence, and google.rpc details whose code equals it. */
export function toServiceError(error: KeyturnError): ServiceError {
  const code = CODE[error.reason];
  const details = detailsOf(error).map(({ desc, value }) => anyPack(desc, value));
  const metadata = new Metadata();
  const message = clip(error.message, MAX_TEXT);
  const body = toBinary(StatusSchema, create(StatusSchema, { code, message, details }));
  metadata.set("grpc-status-details-bin", Buffer.from(body));
  return Object.assign(new Error(message), { code, details: message, metadata });
}
