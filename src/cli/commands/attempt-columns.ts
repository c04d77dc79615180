import type { Column } from "../table.ts";
import { cell } from "../when.ts";
import type { Explanation } from "./account-text.ts";

type Attempt = Explanation["attempts"][number];

/** Columns of the last attempts in `accounts explain`. */
export function attemptColumns(nowMs: number, onTerminal: boolean): readonly Column<Attempt>[] {
  return [
    { title: "TIME", of: ({ time }) => cell(time, nowMs, false), whole: true },
    { title: "AGO", of: ({ time }) => cell(time, nowMs, true), whole: true },
    {
      title: "OUTCOME",
      of: ({ outcome }) => outcome,
      whole: true,
      paint: ({ outcome }, text, paint) => paint(colourOf(outcome), text),
    },
    {
      title: "HTTP",
      of: ({ httpStatus }) => (httpStatus === 0 ? "" : `${httpStatus}`),
      whole: true,
      right: true,
    },
    { title: "PROVIDER CODE", of: ({ providerCode }) => providerCode },
    { title: "GEN", of: ({ generation }) => `${generation}`, whole: true, right: true },
    { title: "INSTANCE", of: ({ instance }) => instance },
    { title: "RULE", of: ({ matchedRule }) => matchedRule },
    // Eighty columns have no room for it; `--json` and a pipe do.
    ...(onTerminal ? [] : [{ title: "ATTEMPT", of: ({ attemptId }: Attempt) => attemptId }]),
  ];
}

function colourOf(outcome: string): "green" | "yellow" | "red" {
  if (outcome === "granted") return "green";
  return outcome === "reauth" || outcome === "fix_configuration" || outcome === "unmapped" ? "red" : "yellow";
}
