import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { type Any, anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceError } from "@grpc/grpc-js";
import { type FieldViolation, KeyturnError, whyUnread } from "../errors.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../gen/google/rpc/status_pb.js";
import { EXIT, exitOfReason } from "./exit.ts";
import { nextStepOf } from "./next-step.ts";
import type { Target } from "./target.ts";
import { unreachable } from "./unreachable.ts";

/** Why a command did not do what was asked, ready to be shown. */
export interface Failure {
  readonly exit: number;
  /** Empty when nobody gave one. */
  readonly reason: string;
  readonly message: string;
  readonly violations: readonly FieldViolation[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;
  readonly nextStep: string | undefined;
}

/** gRPC's codes that are told apart here. */
const CODE = {
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  unimplemented: 12,
  unavailable: 14,
} as const;

/** From whatever was thrown. `target` is whom the command asked. Undefined: it asked nobody. */
export function failureOf(error: unknown, target: Target | undefined): Failure {
  if (error instanceof KeyturnError) return ofOurs(error);
  if (isServiceError(error)) return ofService(error, target);
  if (isSystemError(error)) return ofSystem(error);
  return bug(error);
}

function ofOurs({ reason, message, violations, metadata, retryAfterMs }: KeyturnError): Failure {
  // The one violation's text often is the message already.
  const repeated = violations.filter(({ description }) => !message.includes(description));
  const nextStep = nextStepOf(reason, metadata, violations[0]?.field);
  // A directory that cannot be had is named by the configuration, and only another name will help.
  const misnamed = metadata.cause?.startsWith("state_directory") === true;
  const exit = misnamed ? EXIT.usage : (exitOfReason(reason) ?? EXIT.failed);
  const retry = misnamed ? undefined : retryAfterMs;
  return { exit, reason, message, violations: repeated, metadata, retryAfterMs: retry, nextStep };
}

function ofService(error: ServiceError, target: Target | undefined): Failure {
  const details = detailsOf(error);
  const info = first(details, ErrorInfoSchema);
  if (info === undefined) return withoutReason(error, target);
  const { reason, metadata } = info;
  const retry = first(details, RetryInfoSchema)?.retryDelay;
  const violations = first(details, BadRequestSchema)?.fieldViolations ?? [];
  return {
    exit: exitOfReason(reason) ?? exitOfCode(error.code),
    reason,
    message: error.details,
    violations: violations
      .map(({ field, description }) => ({ field, description }))
      .filter(({ description }) => !error.details.includes(description)),
    metadata,
    retryAfterMs: retry === undefined ? undefined : durationMs(retry),
    nextStep: nextStepOf(reason, metadata, violations[0]?.field),
  };
}

function withoutReason({ code, details }: ServiceError, target: Target | undefined): Failure {
  const nothing = { reason: "", violations: [], metadata: {}, retryAfterMs: undefined };
  const where = target?.shown ?? "the sidecar";
  const exit = exitOfCode(code);
  if (code === CODE.unavailable) return { ...nothing, exit, ...unreachable(details, where) };
  if (code === CODE.deadlineExceeded) {
    const message = `The sidecar at ${where} did not answer in time.`;
    return {
      ...nothing,
      exit,
      message,
      nextStep: "Wait longer with --timeout, or look into the sidecar's log.",
    };
  }
  if (code === CODE.unimplemented) {
    // grpc-js's words for a service that this listener does not have; the sidecar's own say "this version".
    const isElsewhere = details.startsWith("The server does not implement");
    const nextStep = isElsewhere
      ? `Is ${where} really the ${target?.listener ?? "right"} listener?`
      : undefined;
    return { ...nothing, exit, message: details, nextStep };
  }
  return {
    ...nothing,
    exit,
    message: details || `The call failed (gRPC code ${code}).`,
    nextStep: undefined,
  };
}

function exitOfCode(code: number): number {
  if (code === CODE.invalidArgument) return EXIT.usage;
  if (code === CODE.notFound) return EXIT.notFound;
  return code === CODE.unavailable || code === CODE.deadlineExceeded ? EXIT.unavailable : EXIT.failed;
}

function detailsOf({ metadata }: ServiceError): readonly Any[] {
  const [body] = metadata?.get("grpc-status-details-bin") ?? [];
  if (!(body instanceof Uint8Array)) return [];
  try {
    return fromBinary(StatusSchema, body).details;
  } catch {
    // Not ours: some proxy's. What gRPC itself says is left.
    return [];
  }
}

function first<D extends DescMessage>(details: readonly Any[], schema: D): MessageShape<D> | undefined {
  for (const detail of details) {
    try {
      const message = anyUnpack(detail, schema);
      if (message !== undefined) return message;
    } catch {
      // A detail that cannot be read is as good as none.
    }
  }
  return undefined;
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

interface SystemError extends Error {
  readonly code: string;
  readonly syscall: string;
  readonly path?: string;
}

function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && "syscall" in error && "code" in error && typeof error.code === "string";
}

/** Something about what was named, rather than about the machine. */
const UNREAD = ["ENOENT", "EACCES", "EPERM", "EISDIR", "ENOTDIR"];
const NAMED_WRONG = [...UNREAD, "EADDRINUSE", "EADDRNOTAVAIL"];

function ofSystem(error: SystemError): Failure {
  const { code, syscall, path } = error;
  return {
    exit: NAMED_WRONG.includes(code) ? EXIT.usage : EXIT.failed,
    reason: "",
    message:
      UNREAD.includes(code) && path !== undefined
        ? `${path}: ${whyUnread(error)}.`
        : `${path ?? "The operating system"}: ${syscall} failed (${code}).`,
    violations: [],
    metadata: {},
    retryAfterMs: undefined,
    nextStep: undefined,
  };
}

/** A bug's own words may hold anything, a secret too; where it happened cannot. */
function bug(error: unknown): Failure {
  const frames =
    error instanceof Error ? (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line)) : [];
  const at = frames.slice(0, 4).map((line) => line.trim());
  return {
    exit: EXIT.failed,
    reason: "INTERNAL_ERROR",
    message: `Something went wrong inside keyturn (${error instanceof Error ? error.name : typeof error})${at.length > 0 ? `:\n  ${at.join("\n  ")}` : "."}`,
    violations: [],
    metadata: {},
    retryAfterMs: undefined,
    nextStep: "This is a fault of keyturn; please report it with the lines above.",
  };
}
