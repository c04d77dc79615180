import type { core } from "zod";
import type { Path } from "./compiler.ts";

type Issue = core.$ZodIssue;

/** A fault of the file's shape: where, and in words. */
export interface ShapeFault {
  readonly path: Path;
  readonly expected: string;
  readonly message: string;
  readonly atKey?: boolean;
}

/** The checker's issues as one flat list; of a choice the branch that was meant is explained. */
export function shapeFaults(issues: readonly Issue[], above: Path = []): ShapeFault[] {
  return issues.flatMap((issue): ShapeFault[] => {
    const path = [...above, ...issue.path.map((step) => (typeof step === "symbol" ? String(step) : step))];
    const fault = (message: string, at: Path = path): ShapeFault => ({ path: at, expected: "", message });
    switch (issue.code) {
      case "unrecognized_keys":
        return issue.keys.map((key) => ({
          ...fault("is not a known member; remove it or correct its spelling", [...path, key]),
          atKey: true,
        }));
      case "invalid_union":
        return unionFaults(issue, path, fault);
      case "invalid_type":
        return [
          fault(missing(issue) ? `is missing: expected ${issue.expected}` : `expected ${issue.expected}`),
        ];
      case "invalid_value":
        return [fault(`expected one of ${issue.values.map((value) => JSON.stringify(value)).join(", ")}`)];
      case "invalid_format":
        return [
          fault(
            issue.pattern === undefined
              ? `expected a valid ${issue.format}`
              : `expected a text that matches ${issue.pattern}`,
          ),
        ];
      case "invalid_key":
        return [fault("is not a valid name here")];
      default:
        return [fault(issue.message)];
    }
  });
}

function missing(issue: Issue): boolean {
  return issue.message.includes("received undefined");
}

function unionFaults(
  issue: Extract<Issue, { code: "invalid_union" }>,
  path: Path,
  fault: (message: string) => ShapeFault,
): ShapeFault[] {
  const branches = issue.errors.filter(
    (branch) => !branch.some((each) => each.path.length === 0 && isWrongKind(each)),
  );
  const [meant] = branches.sort((a, b) => a.length - b.length);
  if (meant !== undefined && meant.length > 0) return shapeFaults(meant, path);
  if (issue.errors.length === 0)
    return [fault(issue.message.replace("Invalid input", "expected one of the known values"))];
  const expected = issue.errors.flatMap((branch) => branch.map(kindOf));
  return [fault(`expected ${[...new Set(expected)].join(" or ")}`)];
}

function isWrongKind(issue: Issue): boolean {
  return issue.code === "invalid_type" || issue.code === "invalid_value";
}

function kindOf(issue: Issue): string {
  if (issue.code === "invalid_type") return issue.expected;
  if (issue.code === "invalid_value") return issue.values.map((value) => JSON.stringify(value)).join(" or ");
  return issue.code === "invalid_format" && issue.pattern !== undefined
    ? `a text that matches ${issue.pattern}`
    : issue.message;
}
