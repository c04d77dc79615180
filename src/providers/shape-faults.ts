import type { core } from "zod";
import { suggest } from "../suggest.ts";
import type { Path } from "./compiler.ts";

type Issue = core.$ZodIssue;

/** A fault of the file's shape: where, and in words. */
export interface ShapeFault {
  readonly path: Path;
  readonly expected: string;
  readonly message: string;
  readonly atKey?: boolean;
}

/**
 * The checker's issues as one flat list; of a choice the branch that was meant is explained. `members` are the names
 * that the shape has anywhere, for those that are only spelt otherwise.
 */
export function shapeFaults(
  issues: readonly Issue[],
  members: () => readonly string[],
  above: Path = [],
): ShapeFault[] {
  return issues.flatMap((issue): ShapeFault[] => {
    const path = [...above, ...issue.path.map((step) => (typeof step === "symbol" ? String(step) : step))];
    const fault = (message: string, at: Path = path): ShapeFault => ({ path: at, expected: "", message });
    switch (issue.code) {
      case "unrecognized_keys":
        return issue.keys.map((key) => ({
          ...fault(`is not a known member${meant(key, members())}`, [...path, key]),
          atKey: true,
        }));
      case "invalid_union":
        return unionFaults(issue, members, path, fault);
      case "invalid_type":
        return [fault(`${missing(issue) ? "is missing: " : ""}expected ${inWords(issue.expected)}`)];
      case "invalid_value":
        return [fault(`expected one of ${issue.values.map((value) => JSON.stringify(value)).join(", ")}`)];
      case "invalid_format":
        return [fault(formatText(issue))];
      case "invalid_key":
        return [fault("is not a valid name here")];
      default:
        return [fault(issue.message)];
    }
  });
}

/** Members are written in snake_case here and in camelCase there, which is easily mixed up. */
function meant(key: string, members: readonly string[]): string {
  const plain = (name: string) => name.toLowerCase().replaceAll(/[_-]/g, "");
  const other = members.find((name) => plain(name) === plain(key)) ?? suggest(key, members)[0];
  return other === undefined ? "; remove it or correct its spelling" : `; did you mean ${other}?`;
}

/** The schema's own words, where it has some. */
function formatText(issue: Extract<Issue, { code: "invalid_format" }>): string {
  if (!issue.message.startsWith("Invalid")) return issue.message;
  return issue.pattern === undefined
    ? `expected a valid ${issue.format}`
    : `expected a text that matches ${issue.pattern}`;
}

function missing(issue: Issue): boolean {
  return issue.message.includes("received undefined");
}

function unionFaults(
  issue: Extract<Issue, { code: "invalid_union" }>,
  members: () => readonly string[],
  path: Path,
  fault: (message: string) => ShapeFault,
): ShapeFault[] {
  const branches = issue.errors.filter(
    (branch) => !branch.some((each) => each.path.length === 0 && isWrongKind(each)),
  );
  const [closest] = branches.sort((a, b) => a.length - b.length);
  if (closest !== undefined && closest.length > 0) return shapeFaults(closest, members, path);
  if (issue.errors.length === 0)
    return [fault(issue.message.replace(/^.*Expected |^Invalid input/, "expected one of "))];
  const all = issue.errors.flat();
  const isMissing = all.length > 0 && all.every((each) => each.path.length === 0 && missing(each));
  return [fault(`${isMissing ? "is missing: " : ""}expected ${[...new Set(all.map(kindOf))].join(" or ")}`)];
}

function isWrongKind(issue: Issue): boolean {
  return issue.code === "invalid_type" || issue.code === "invalid_value";
}

function kindOf(issue: Issue): string {
  if (issue.code === "invalid_type") return inWords(issue.expected);
  if (issue.code === "invalid_value") return issue.values.map((value) => JSON.stringify(value)).join(" or ");
  return (issue.code === "invalid_format" ? formatText(issue) : issue.message).replace(/^expected /, "");
}

const WORDS: Readonly<Record<string, string>> = {
  string: "a text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "members (name: value)",
  record: "members (name: value)",
};

function inWords(kind: string): string {
  return WORDS[kind] ?? kind;
}
