import { KeyturnError } from "./errors.ts";

/** One JSON line for every event that has no caller to tell it to. */
export type Log = (
  what: string,
  context?: Readonly<Record<string, string | number>>,
  cause?: unknown,
) => void;

/**
 * Of a foreign error only its name and where it was thrown: its message may quote what it was given, and that may be a
 * token.
 */
function causeOf(cause: unknown): unknown {
  if (cause instanceof KeyturnError)
    return { reason: cause.reason, message: cause.message, ...cause.metadata };
  if (!(cause instanceof Error)) return cause === undefined ? undefined : typeof cause;
  const at = (cause.stack ?? "").split("\n").filter((line) => line.startsWith("    at "));
  return { name: cause.name, at: at.slice(0, 6).map((line) => line.trim()) };
}

export function createLog(write: (line: string) => void, now: () => number): Log {
  return (what, context = {}, cause) => {
    write(
      `${JSON.stringify({ time: new Date(now()).toISOString(), message: what, ...context, cause: causeOf(cause) })}\n`,
    );
  };
}
