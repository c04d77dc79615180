import type { Column } from "../table.ts";
import { cell } from "../when.ts";
import type { Explanation } from "./account-text.ts";

type Attempt = Explanation["attempts"][number];

const FURTHER: readonly Column<Attempt>[] = [
  { title: "GEN", of: ({ generation }) => `${generation}`, right: true },
  { title: "ATTEMPT", of: ({ attemptId }) => attemptId },
];

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
    { title: "CODE", of: ({ providerCode }) => providerCode, whole: true },
    { title: "INSTANCE", of: ({ instance }) => instance },
    { title: "RULE", of: ({ matchedRule }) => matchedRule },
    // Eighty columns have no room for them; `--json` and a pipe do.
    ...(onTerminal ? [] : FURTHER),
  ];
}

function colourOf(outcome: string): "green" | "yellow" | "red" {
  if (outcome === "granted") return "green";
  return outcome === "reauth" || outcome === "fix_configuration" || outcome === "unmapped" ? "red" : "yellow";
}
