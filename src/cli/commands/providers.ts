import {
  GetProviderResponseSchema,
  ProviderSchema,
  ProviderService,
} from "../../gen/keyturn/v1/provider_service_pb.js";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { plain } from "../paint.ts";

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
  arguments: [{ name: "FILE", many: true }],
  options: {},
  about: "Runs here and needs no sidecar. The exit code is 2 when a file would not load.",
  examples: [
    {
      line: "keyturn providers lint providers/*.yaml",
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
      output.text(`${args.length} ${args.length === 1 ? "file" : "files"}: good`);
    for (const { file, line, column, path, description } of output.json ? [] : faults) {
      const where = output.paint("bold", plain(`${file}:${line}:${column}`));
      output.text(`${where} ${plain(path === "" ? description : `${path}: ${description}`)}`);
    }
    return faults.length === 0 ? EXIT.done : EXIT.usage;
  },
};

/** What the sidecar knows of third parties. */
export const providerCommands: readonly Command[] = [list, show, lint];
