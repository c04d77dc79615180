import type { Failure } from "./failure.ts";
import type { Io } from "./io.ts";
import { paintFor, plain } from "./paint.ts";
import { facts } from "./table.ts";
import { span } from "./when.ts";

/** Says on stderr what went wrong and what to do next; with `json` as one object on one line. */
export function report(failure: Failure, io: Io, json: boolean): void {
  io.stderr.write(json ? `${JSON.stringify({ error: objectOf(failure) })}\n` : textOf(failure, io));
}

function objectOf({ exit, reason, message, violations, metadata, retryAfterMs, nextStep }: Failure) {
  return { reason, message, violations, metadata, retryAfterMs, nextStep, exitCode: exit };
}

function textOf({ reason, message, violations, metadata, retryAfterMs, nextStep }: Failure, io: Io): string {
  const paint = paintFor(io.stderr, io.env);
  const lines = message.split("\n").map(plain).join("\n");
  const head = `${paint("red", "error:")} ${lines}${reason === "" ? "" : ` ${paint("dim", `[${plain(reason)}]`)}`}\n`;
  const details = facts(
    [
      ...violations.map(({ field, description }) => [field || "request", description] as const),
      ...Object.entries(metadata),
      ["try again in", retryAfterMs === undefined ? undefined : span(Math.max(1_000, retryAfterMs))] as const,
    ],
    { paint, indent: "  " },
  );
  return head + details + (nextStep === undefined ? "" : `${paint("bold", "next:")} ${plain(nextStep)}\n`);
}
