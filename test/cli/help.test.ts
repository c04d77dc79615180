import { describe, expect, it } from "vitest";
import { commands } from "../../src/cli/commands.ts";
import { GLOBAL_OPTIONS } from "../../src/cli/global-options.ts";
import { parse } from "../../src/cli/parse.ts";
import { run } from "./run.ts";

describe("help", () => {
  it.each(commands.map(({ name }) => name))(
    "of `%s` goes to stdout, with its options and an example",
    async (name) => {
      const ran = await run([...name.split(" "), "--help"]);
      expect(ran).toMatchObject({ exit: 0, stderr: "" });
      expect(ran.stdout).toContain(`Usage: keyturn ${name}`);
      expect(ran.stdout).toContain("Examples:\n  # ");
      const command = commands.find((each) => each.name === name);
      for (const option of Object.keys(command?.options ?? {})) expect(ran.stdout).toContain(`--${option}`);
    },
  );

  it("of everything lists every command and the exit codes", async () => {
    for (const words of [["--help"], ["help"], ["-h"]]) {
      const { stdout, exit } = await run(words);
      expect(exit).toBe(0);
      for (const { name, summary } of commands) {
        expect(stdout).toContain(name);
        expect(stdout).toContain(summary);
      }
      expect(stdout).toContain("130 interrupted");
    }
  });

  it("of a group lists its commands, asked for in either way", async () => {
    for (const words of [
      ["keys", "--help"],
      ["help", "keys"],
    ]) {
      const { stdout } = await run(words);
      expect(stdout).toContain("keys rewrap");
      expect(stdout).not.toContain("accounts list");
    }
  });

  it.each([[[]], [["accounts"]]])(
    "goes to stderr with exit code 2 when nothing to run is named: %j",
    async (words) => {
      const ran = await run(words);
      expect(ran).toMatchObject({ exit: 2, stdout: "" });
      expect(ran.stderr).toContain("Commands:");
    },
  );

  it("of what does not exist is a usage error", async () => {
    expect((await run(["help", "nothing"])).exit).toBe(2);
  });

  it("names the connection's options only where a sidecar is asked", async () => {
    expect((await run(["demo", "--help"])).stdout).not.toContain("--socket");
    expect((await run(["token", "--help"])).stdout).toContain("--socket");
  });

  it.each(commands.flatMap(({ examples }) => examples.map(({ line }) => line)))(
    "shows only lines that can be run: %s",
    (line) => {
      const mine = line.split(/[|>]|&&|\$\(|\)/).filter((part) => /^\s*keyturn /.test(part));
      for (const part of mine) {
        const words = part.trim().match(/"[^"]*"|\S+/g) ?? [];
        expect(() => parse(words.slice(1), commands)).not.toThrow();
      }
      expect(mine.length + Number(line.startsWith("curl"))).toBeGreaterThan(0);
    },
  );
});

it("prints the version", async () => {
  expect(await run(["--version"])).toMatchObject({ exit: 0, stdout: "1.2.3\n" });
});

describe("the command table", () => {
  it("uses an option's name for one kind of thing only, because options may come before the command", () => {
    const kinds = new Map<string, boolean>();
    for (const options of [GLOBAL_OPTIONS, ...commands.map(({ options }) => options)]) {
      for (const [name, { value }] of Object.entries(options)) {
        expect([name, kinds.get(name) ?? value !== undefined]).toEqual([name, value !== undefined]);
        kinds.set(name, value !== undefined);
      }
    }
  });

  it("has no option that takes a secret itself", () => {
    const names = commands.flatMap(({ options }) => Object.entries(options));
    const secret = /(token|secret|password|api-key|username|credential)$/;
    for (const [name, { value }] of [...names, ...Object.entries(GLOBAL_OPTIONS)]) {
      expect(secret.test(name) && value !== undefined ? name : "").toBe("");
    }
  });

  it("names every command once", () => {
    const names = commands.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });
});
