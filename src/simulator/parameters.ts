import { type Answer, problem } from "./answer.ts";

/** A request once its body is read. */
export interface Incoming {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  /** When its first byte was seen. */
  readonly arrivedAtMs: number;
}

/** Request parameters by name, each with one non-empty value. */
export type Parameters = ReadonlyMap<string, string>;

/** The one value of a header; repeated ones count as absent. */
export function header(incoming: Pick<Incoming, "headers">, name: string): string | undefined {
  const value = incoming.headers[name];
  return typeof value === "string" ? value : undefined;
}

/** The parameters of a form or JSON body, or the answer that refuses it. Empty values count as absent (RFC 6749 §3.2). */
export function bodyParameters(incoming: Incoming): { parameters: Parameters } | { refusal: Answer } {
  const type = (header(incoming, "content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase();
  if (type === "application/x-www-form-urlencoded") {
    return once(new URLSearchParams(incoming.body.toString("utf8")));
  }
  if (type === "application/json") return fromJson(incoming.body.toString("utf8"));
  return refuse("the content type must be application/x-www-form-urlencoded or application/json");
}

/** The parameters of a query or form; a repeated one is refused (RFC 6749 §3.1, §3.2). */
export function once(source: URLSearchParams): { parameters: Parameters } | { refusal: Answer } {
  const parameters = new Map<string, string>();
  const seen = new Set<string>();
  for (const [name, value] of source) {
    if (seen.has(name)) return refuse(`the parameter ${name} is repeated`);
    seen.add(name);
    if (value !== "") parameters.set(name, value);
  }
  return { parameters };
}

function fromJson(text: string): { parameters: Parameters } | { refusal: Answer } {
  const parameters = new Map<string, string>();
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      return refuse("the body must be a JSON object");
    }
    for (const [name, member] of Object.entries(value)) {
      if (typeof member !== "string") return refuse(`the parameter ${name} must be a string`);
      if (member !== "") parameters.set(name, member);
    }
  } catch {
    return refuse("the body is not JSON");
  }
  return { parameters };
}

function refuse(description: string): { refusal: Answer } {
  return { refusal: problem(400, "invalid_request", description) };
}
