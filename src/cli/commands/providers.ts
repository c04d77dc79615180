import {
  GetProviderResponseSchema,
  ProviderSchema,
  ProviderService,
} from "../../gen/keyturn/v1/provider_service_pb.js";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import type { LintFault } from "../io.ts";
import type { Output } from "../output.ts";
import { plain } from "../paint.ts";
import { shellWord } from "../shell-word.ts";

const list: Command = {
  name: "providers list",
  summary: "List the loaded provider files",
  listener: "admin",
  arguments: [],
  options: {},
  examples: [{ line: "keyturn providers list", says: "which providers this sidecar knows" }],
  run: async ({ connect, output }) => {
    const { providers } = await (await connect()).unary(ProviderService.method.listProviders, {});
    if (output.json) for (const provider of providers) output.message(ProviderSchema, provider);
    else {
      output.table(providers, [
        { title: "PROVIDER", of: ({ name }) => name, whole: true },
        { title: "FORMAT", of: ({ format }) => format, whole: true },
        { title: "ACCOUNT FIELDS", of: ({ accountFields }) => accountFields.join(", ") },
        { title: "SOURCE", of: ({ source }) => source },
      ]);
    }
    return EXIT.done;
  },
};

const show: Command = {
  name: "providers show",
  summary: "Show how to set a provider up, and its file",
  listener: "admin",
  arguments: [{ name: "PROVIDER" }],
  options: {},
  examples: [
    { line: "keyturn providers show simulator", says: "where to register your app, then the file" },
    {
      line: "keyturn providers show simulator --json | jq -r .text > simulator.yaml",
      says: "a copy to change",
    },
  ],
  run: async ({ args, connect, output }) => {
    const answer = await (await connect()).unary(ProviderService.method.getProvider, { name: args[0] ?? "" });
    const { provider, text } = answer;
    if (output.json) output.message(GetProviderResponseSchema, answer);
    else {
      output.facts([
        ["provider", provider?.name],
        ["format", provider?.format],
        ["account fields", provider?.accountFields.join(", ")],
        ["source", provider?.source],
      ]);
      const lines = (block: string) =>
        block
          .trimEnd()
          .split("\n")
          .map((line) => `  ${plain(line)}`)
          .join("\n");
      if (provider !== undefined && provider.setup !== "") {
        output.text(`\n${output.paint("bold", "Setup")}\n${lines(provider.setup)}`);
      }
      output.text(`\n${output.paint("bold", "File")}\n${lines(text)}`);
    }
    return EXIT.done;
  },
};

const lint: Command = {
  name: "providers lint",
  summary: "Check provider files without loading them",
  listener: undefined,
  arguments: [{ name: "PATH", many: true }],
  options: {},
  about:
    "PATH is a provider file, or a directory of them. Runs here and needs no sidecar. The exit code is 2 when a file would\nnot load.",
  examples: [
    {
      line: "keyturn providers lint providers",
      says: "file:line:column, what is wrong, what is expected",
    },
  ],
  run: async ({ args, rooms, output }) => {
    const faults = await rooms.lintProviders(args);
    if (output.json) {
      for (const { file, line, column, path, description } of faults) {
        output.object({ file, line, column, path, description });
      }
    } else if (faults.length === 0)
      output.text(`${args.length === 1 ? plain(args[0] ?? "") : `${args.length} paths`}: good`);
    for (const fault of output.json ? [] : faults) output.text(faultLine(output, fault));
    return faults.length === 0 ? EXIT.done : EXIT.usage;
  },
};

const test: Command = {
  name: "providers test",
  summary: "Run the fixtures of provider files: what the vendor answers, and what comes of it",
  listener: undefined,
  arguments: [{ name: "PROVIDER", many: true }],
  options: {},
  about:
    "PROVIDER is the name of a shipped provider, or the path of a file of yours whose fixtures lie in fixtures/ beside it.\nRuns here; nothing is sent anywhere. The exit code is 1 when a case fails, 2 when a file would not load.",
  examples: [
    { line: "keyturn providers test simulator", says: "every case by name" },
    { line: "keyturn providers test providers/acme.yaml --json", says: "one result a line" },
  ],
  run: async ({ args, rooms, output }) => {
    const tests = await rooms.testProviders(args);
    for (const { provider, faults, cases } of tests) {
      for (const { file, line, column, path, description } of faults) {
        if (output.json) output.object({ provider, file, line, column, path, description });
        else output.text(faultLine(output, { file, line, column, path, description }));
      }
      for (const { it, faults: failed } of cases) {
        if (output.json) output.object({ provider, it, passed: failed.length === 0, faults: [...failed] });
        else {
          output.text(
            `${failed.length === 0 ? "passed" : output.paint("red", "failed")}  ${provider}: ${plain(it)}`,
          );
          for (const fault of failed) output.text(`        ${plain(fault)}`);
        }
      }
    }
    if (tests.some(({ faults }) => faults.length > 0)) return EXIT.usage;
    const failed = tests.some(({ cases }) => cases.some(({ faults }) => faults.length > 0));
    return failed ? EXIT.failed : EXIT.done;
  },
};

const FORMATS = ["oauth2", "api_key"] as const;

const create: Command = {
  name: "providers new",
  summary: "Write a provider file to start from, with its fixtures",
  listener: undefined,
  arguments: [{ name: "NAME" }],
  options: {
    directory: { value: "PATH", help: "where to write (default: this directory)" },
    format: { value: "FORMAT", help: "what the vendor takes (default oauth2)", choices: FORMATS },
  },
  about:
    "Writes NAME.yaml and fixtures/NAME.yaml, both with comments that say what to change. They load and pass as they are.\nName the directory in the sidecar's configuration (providers.directories) to use them.",
  examples: [
    { line: "keyturn providers new acme --directory providers", says: "then change it, lint it, test it" },
    { line: "keyturn providers new acme --format api_key", says: "for a vendor without OAuth" },
  ],
  run: async ({ args, options, rooms, output }) => {
    const format = options.text("format") || FORMATS[0];
    const directory = options.text("directory") || ".";
    const paths = await rooms.newProvider({ name: args[0] ?? "", directory, format });
    if (output.json) for (const path of paths) output.object({ path });
    else {
      for (const path of paths) output.text(`wrote ${plain(path)}`);
      output.text(
        `\nNext:\n  keyturn providers lint ${shellWord(paths[0] ?? "")}\n  keyturn providers test ${shellWord(paths[0] ?? "")}`,
      );
    }
    return EXIT.done;
  },
};

function faultLine(output: Output, { file, line, column, path, description }: LintFault): string {
  const where = output.paint("bold", plain(`${file}:${line}:${column}`));
  return `${where} ${plain(path === "" ? description : `${path}: ${description}`)}`;
}

/** What the sidecar knows of third parties. */
export const providerCommands: readonly Command[] = [list, show, create, lint, test];
