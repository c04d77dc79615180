import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { commands } from "../../src/cli/commands.ts";
import { parse } from "../../src/cli/parse.ts";
import { KeyturnError } from "../../src/errors.ts";
import { run } from "./run.ts";

const parsed = (...words: string[]) => {
  const result = parse(words, commands);
  if (result.kind !== "run") throw new TypeError(`a command, not ${result.kind}`);
  return result;
};

describe("a command line", () => {
  it("may have options before, between and after its words", () => {
    const { command, args, options } = parsed(
      "--json",
      "accounts",
      "--timeout=5s",
      "get",
      "acme",
      "--socket",
      "/x",
    );
    expect(command.name).toBe("accounts get");
    expect(args).toEqual(["acme"]);
    expect(options.has("json")).toBe(true);
    expect(options.duration("timeout")).toBe(5_000);
    expect(options.text("socket")).toBe("/x");
  });

  it("takes what follows two dashes as words", () => {
    expect(parsed("accounts", "get", "--", "-x").args).toEqual(["-x"]);
  });

  it("takes a lone dash as a value", () => {
    expect(
      parsed("accounts", "create", "--provider", "p", "--api-key-file", "-").options.text("api-key-file"),
    ).toBe("-");
  });

  it.each([
    [["tokn", "acme"], "There is no command `keyturn tokn`. Did you mean `keyturn token`?"],
    [["account", "list"], "Did you mean `keyturn accounts`?"],
    [
      ["accounts", "lsit"],
      "There is no command `keyturn accounts lsit`. Did you mean `keyturn accounts list`?",
    ],
    [["accounts", "frobnicate"], "`keyturn accounts --help` lists what there is."],
    [["frobnicate"], "`keyturn --help` lists what there is."],
    [
      ["accounts", "list", "--provder", "x"],
      "--provder: is not an option of `keyturn accounts list`; did you mean --provider?",
    ],
    [["accounts", "get", "x", "--show-token"], "--show-token: is not an option of `keyturn accounts get`"],
    [["accounts", "get"], "ACCOUNT: is needed: keyturn accounts get ACCOUNT"],
    [["clients", "put", "salesforce"], "NAME: is needed: keyturn clients put PROVIDER NAME"],
    [["accounts", "list", "--socket"], "--socket: needs a value: --socket PATH"],
    [["accounts", "list", "--socket", "--json"], "--socket: needs a value"],
    [["accounts", "list", "--json=yes"], "--json: takes no value"],
    [["accounts", "list", "--tenant", "a", "--tenant", "b"], "--tenant: is given more than once"],
    [["accounts", "list", "--label", "novalue"], "--label: key=value"],
    [["accounts", "list", "--limit", "-1"], "--limit: needs a value"],
    [["accounts", "list", "--limit", "1.5"], "--limit: a whole number from 0"],
    [
      ["accounts", "list", "--status", "SLEEPY"],
      "--status: one of PENDING, ACTIVE, NEEDS_REAUTH, DISABLED, MISCONFIGURED",
    ],
    [["token", "a", "--min-validity", "soon"], "--min-validity: a whole number and its unit"],
    [["audit", "query", "--since", "yesterday"], "--since: a time such as"],
    [["simulate", "--style", "odd"], "--style: one of strict, grace, none"],
    [["simulate", "--port", "65536"], "--port: a whole number from 0 to 65535"],
    [["keys", "retire", "one"], "VERSION: a whole number from 1"],
    [["-x"], "-x: is not an option"],
  ])("%j is refused with what was meant", async (words, text) => {
    const ran = await run(words);
    expect(ran.exit).toBe(2);
    expect(ran.stdout).toBe("");
    expect(ran.stderr).toContain(text);
  });

  it("of any shape is understood or refused, and never crashes", () => {
    const word = fc.oneof(
      fc.constantFrom(
        "accounts",
        "list",
        "--json",
        "--socket",
        "--",
        "-",
        "--label",
        "a=b",
        "--__proto__=x",
        "constructor",
      ),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 6 }), (words) => {
        try {
          parse(words, commands);
        } catch (error) {
          expect(error).toBeInstanceOf(KeyturnError);
        }
      }),
    );
  });
});
