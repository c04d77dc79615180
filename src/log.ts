import { KeyturnError } from "./errors.ts";

/**
 * One JSON line for every event that has no caller to tell it to: `time`, `level`, `message`, and what it is about.
 * `warn` when something has failed (`cause` says what), else `info`.
 */
export type Log = (
  what: string,
  context?: Readonly<Record<string, string | number>>,
  cause?: unknown,
) => void;

/** `ECONNREFUSED`, or gRPC's 14: never anybody's text. */
const CODE = /^[A-Z0-9_]{1,40}$/;

/**
 * Of a foreign error only its name, its code and where it was thrown: its message may quote what it was given, and that
 * may be a token.
 */
function causeOf(cause: unknown): unknown {
  if (cause instanceof KeyturnError)
    return { reason: cause.reason, message: cause.message, ...cause.metadata };
  if (!(cause instanceof Error)) return cause === undefined ? undefined : typeof cause;
  const at = (cause.stack ?? "").split("\n").filter((line) => line.startsWith("    at "));
  const code = "code" in cause && CODE.test(String(cause.code)) ? String(cause.code) : undefined;
  return { name: cause.name, code, at: at.slice(0, 6).map((line) => line.trim()) };
}

export function createLog(write: (line: string) => void, now: () => number): Log {
  return (what, context = {}, cause) => {
    const time = new Date(now()).toISOString();
    const level = cause === undefined ? "info" : "warn";
    write(`${JSON.stringify({ time, level, message: what, ...context, cause: causeOf(cause) })}\n`);
  };
}
