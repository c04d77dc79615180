import { suggest } from "../suggest.ts";
import type { Compiled } from "./compiled.ts";
import { type Expression, isFault } from "./fence.ts";
import { compileField, type FieldRule } from "./fields.ts";
import type { NamedValues, ValuePlan } from "./provider.ts";
import { isRequestValue } from "./request-values.ts";
import {
  hostVariables,
  parseTemplate,
  parseUrlTemplate,
  type Template,
  type UrlTemplate,
  variablesOf,
} from "./template.ts";

export type Path = readonly (string | number)[];

/** Something that the shape allows and the meaning does not. */
export interface CompileFault {
  readonly path: Path;
  readonly expected: string;
  /** Offset within the value at `path`, for expressions. */
  readonly offset?: number | undefined;
  /** The member's name is at fault, not its value. */
  readonly atKey?: boolean;
}

const LOOPBACK = /^(127\.0\.0\.1|localhost)(:([0-9]+|\$))?$/;
const HOST_TEXT = /^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*(:[1-9][0-9]{0,4})?$/;
const NOWHERE: UrlTemplate = { source: "", origin: { scheme: "https", authority: [] }, path: [], query: [] };
/** A request's text, or an expression over its values. */
export type DescribedValue = string | { readonly value: string };
export type DescribedValues = Readonly<Record<string, DescribedValue>> | undefined;

const NEVER: Expression = { source: "", run: () => ({ ok: false, why: "faulty" }) };

/** Compiles the parts of one file and collects what is wrong with them, so that all faults are told at once. */
export class Compiler {
  readonly faults: CompileFault[] = [];
  readonly fields = new Map<string, FieldRule>();
  /** Names of the OAuth client's further secrets. */
  readonly clientFields: readonly string[];
  readonly #allowLoopback: boolean;
  readonly #hosts: Template[] = [];
  readonly #constantHosts = new Set<string>();
  readonly #compiled: Compiled;
  readonly #answerFields = new Map<string, string>();

  constructor(compiled: Compiled, allowLoopback: boolean, clientFields: readonly string[]) {
    this.#compiled = compiled;
    this.#allowLoopback = allowLoopback;
    this.clientFields = clientFields;
  }

  /** Hosts of all URLs compiled so far. */
  get writtenHosts(): readonly Template[] {
    return this.#hosts;
  }

  fault(path: Path, expected: string, offset?: number): void {
    this.faults.push({ path, expected, offset });
  }

  /** Faults of parts that are compiled for several tokens are told once. */
  get distinctFaults(): readonly CompileFault[] {
    const seen = new Set<string>();
    return this.faults.filter(({ path, expected }) => {
      const text = `${path.join(".")}: ${expected}`;
      return !seen.has(text) && seen.add(text) !== undefined;
    });
  }

  /** A field of an answer; several answers may tell the same one. */
  answerField(path: Path, name: string, constraint: Parameters<typeof compileField>[0]): void {
    const text = JSON.stringify(constraint);
    if (this.#answerFields.get(name) === text) return;
    this.#answerFields.set(name, text);
    this.field(path, name, constraint, "any_text");
  }

  field(
    path: Path,
    name: string,
    constraint: Parameters<typeof compileField>[0],
    otherwise: "dns_label" | "any_text",
  ): void {
    if (this.fields.has(name)) this.fault(path, "a name that no other field has");
    if (isRequestValue(name)) this.fault(path, `another name than ${name}, which every request has`);
    const rule = compileField(constraint, otherwise, this.#compiled.pattern);
    if (typeof rule === "string") this.fault(path, rule);
    else this.fields.set(name, rule);
  }

  expression(path: Path, source: string): Expression {
    const compiled = this.#compiled.expression(source);
    if (!isFault(compiled)) return compiled;
    this.fault(path, compiled.message, compiled.position);
    return NEVER;
  }

  /** An expression over a request's values, with the functions that sign and hash. */
  requestExpression(path: Path, source: string): Expression {
    const compiled = this.#compiled.requestExpression(source);
    if (!isFault(compiled)) return compiled;
    this.fault(path, compiled.message, compiled.position);
    return NEVER;
  }

  /** `known` answers whether a variable may stand in a text. */
  value(path: Path, described: DescribedValue, known: (name: string) => boolean): ValuePlan {
    return typeof described === "string"
      ? this.template(path, described, (name) => this.fields.has(name) || known(name))
      : this.requestExpression([...path, "value"], described.value);
  }

  values(path: Path, described: DescribedValues, known: (name: string) => boolean): NamedValues {
    return Object.entries(described ?? {}).map(([name, value]) => [
      name,
      this.value([...path, name], value, known),
    ]);
  }

  maybeExpression(path: Path, source: string | undefined): Expression | undefined {
    return source === undefined ? undefined : this.expression(path, source);
  }

  expressions(
    path: Path,
    sources: Readonly<Record<string, string>> | undefined,
  ): (readonly [string, Expression])[] {
    return Object.entries(sources ?? {}).map(([name, source]) => [
      name,
      this.expression([...path, name], source),
    ]);
  }

  /** `known` answers whether a variable may stand here. */
  template(path: Path, text: string, known: (name: string) => boolean): Template {
    const template = parseTemplate(text);
    if (typeof template === "string") {
      this.fault(path, template);
      return [];
    }
    for (const name of variablesOf(template)) {
      if (!known(name)) this.#undeclared(path, name, known);
    }
    return template;
  }

  templates(
    path: Path,
    texts: Readonly<Record<string, string>> | undefined,
  ): (readonly [string, Template])[] {
    const known = (name: string) => this.fields.has(name);
    return Object.entries(texts ?? {}).map(([name, text]) => [
      name,
      this.template([...path, name], text, known),
    ]);
  }

  url(path: Path, text: string, known: (name: string) => boolean = () => false): UrlTemplate {
    const url = parseUrlTemplate(text);
    if (typeof url === "string") {
      this.fault(path, url);
      return NOWHERE;
    }
    for (const name of [...variablesOf(url.path), ...variablesOf(url.query)]) {
      if (!this.fields.has(name) && !known(name)) this.#undeclared(path, name, known);
    }
    this.#checkOrigin(path, url);
    return url;
  }

  #undeclared(path: Path, name: string, known: (name: string) => boolean = () => false): void {
    const names = [...this.fields.keys()];
    const candidates = [
      ...names,
      ...names.map((field) => `fields.${field}`).filter(known),
      ...this.clientFields.map((field) => `client.${field}`).filter(known),
    ];
    const spelt = candidates.find((each) => each.endsWith(`.${name}`)) ?? suggest(name, candidates)[0];
    const meant = spelt === undefined ? "" : `; did you mean \${${spelt}}?`;
    this.fault(
      path,
      `a name that account_fields, callback_fields or response.fields declare instead of \${${name}}${meant}`,
    );
  }

  #checkOrigin(path: Path, url: UrlTemplate): void {
    for (const name of hostVariables(url)) {
      const rule = this.fields.get(name);
      if (rule === undefined) this.#undeclared(path, name);
      else if (!rule.mayBeHost || ("variable" in url.origin && rule.suffixes.length === 0)) {
        const need = "variable" in url.origin ? "allowed_suffixes" : "a pattern or allowed_suffixes";
        this.fault(path, `${need} for \${${name}}, because it decides which host is called`);
      }
    }
    if ("variable" in url.origin) {
      const suffixes = this.fields.get(url.origin.variable)?.suffixes ?? [];
      this.#hosts.push(...suffixes.flatMap((suffix) => [[{ text: suffix }], [{ text: `*.${suffix}` }]]));
      return;
    }
    // A variable may only be the port: it must not make another host of a loopback one.
    const isLoopback = LOOPBACK.test(
      url.origin.authority.map((part) => ("text" in part ? part.text : "$")).join(""),
    );
    if (url.origin.scheme === "http" && !(this.#allowLoopback && isLoopback)) {
      this.fault(path, "https (http only to 127.0.0.1 or localhost, with allow_loopback_http: true)");
    }
    this.#hosts.push(url.origin.authority);
    const [part, more] = url.origin.authority;
    if (part !== undefined && "text" in part && more === undefined) this.#constantHosts.add(part.text);
  }

  /** The file's own list of hosts, or else those that its URLs write out. */
  allowedHosts(path: Path, texts: readonly string[] | undefined): readonly Template[] {
    if (texts === undefined) return this.#hosts;
    const listed = texts.map((text, at) => {
      const known = (name: string) => this.fields.get(name)?.mayBeHost === true;
      const template = this.template([...path, at], text, known);
      const sample = template.reduce(
        (text, part) => text + ("text" in part ? part.text : text.endsWith(":") ? "1" : "x"),
        "",
      );
      const tooWide = sample.startsWith("*.") && sample.split(".").length < 3;
      if (!HOST_TEXT.test(sample) || tooWide)
        this.fault([...path, at], "a host such as api.example.com, api.example.com:8443 or *.example.com");
      return template;
    });
    this.#checkWritten(path, texts);
    return listed;
  }

  /** A host that a URL writes out and the list leaves out could never be called. */
  #checkWritten(path: Path, texts: readonly string[]): void {
    const covers = (text: string, host: string) =>
      text === host || (text.startsWith("*.") && host.endsWith(text.slice(1)));
    for (const host of this.#constantHosts)
      if (!texts.some((text) => covers(text, host)))
        this.fault(path, `${host} among them, because a URL of this file goes there`);
  }
}
