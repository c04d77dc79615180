import { invalid, KeyturnError } from "../../errors.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { wholeOf } from "../options.ts";
import { plain } from "../paint.ts";
import { configOf } from "../target.ts";

const serve: Command = {
  name: "serve",
  summary: "Run the sidecar",
  listener: undefined,
  arguments: [],
  options: {
    config: {
      value: "PATH",
      help: "configuration file (default: $KEYTURN_CONFIG; without either, the defaults)",
    },
    set: { value: "KEY=VALUE", help: "one configuration key, over file and environment", many: true },
    "after-restore": {
      help: "the store was restored from a copy: refreshes wait for journal accept-restore",
    },
  },
  about:
    "Flags win over environment (KEYTURN_LISTENERS__DATA__SOCKET), environment over file. SIGHUP reads the provider\nfiles again; SIGTERM finishes the refreshes on their way and stops.",
  examples: [
    { line: "keyturn serve --config keyturn.yaml", says: "as configured" },
    {
      line: "keyturn serve --set state_dir=/tmp/kt --set listeners.data.socket=/tmp/kt/data.sock",
      says: "without a file",
    },
  ],
  run: ({ options, io, rooms }) => {
    const config = configOf(options, io.env);
    const flags = options.pairs("set");
    const afterRestore = options.has("after-restore");
    return rooms.serve({ flags, afterRestore, ...(config === undefined ? {} : { config }) });
  },
};

const demo: Command = {
  name: "demo",
  summary: "Try it: a sidecar, a simulated provider and an account whose token is refreshed as you watch",
  listener: undefined,
  arguments: [],
  options: {
    tour: { help: "a scripted tour that ends by itself" },
    cluster: { help: "three sidecars over etcd and Vault; one of them is killed" },
    etcd: { value: "URL", help: "with --cluster: etcd's endpoints, separated by commas" },
    vault: { value: "URL", help: "with --cluster: OpenBao or Vault, with the key `keyturn` at transit" },
    "vault-token-file": { value: "FILE", help: "with --cluster: a token for that key" },
  },
  about: "`npm start -- --cluster` in a checkout brings etcd and OpenBao with it.",
  examples: [
    { line: "keyturn demo", says: "prints lines to paste, then events as they happen" },
    { line: "keyturn demo --tour", says: "what Keyturn does, in a minute" },
  ],
  run: ({ options, rooms }) =>
    options.has("cluster")
      ? rooms.clusterDemo({
          etcd: options.required("etcd").split(","),
          vault: options.required("vault"),
          vaultTokenFile: options.required("vault-token-file"),
        })
      : rooms.demo({ tour: options.has("tour") }),
};

const STYLES = ["strict", "grace", "none"] as const;
const MAX_PORT = 65_535;

const simulate: Command = {
  name: "simulate",
  summary: "Run a simulated provider for tests and staging",
  listener: undefined,
  arguments: [],
  options: {
    host: { value: "HOST", help: "address to listen on (default 127.0.0.1)" },
    port: { value: "PORT", help: "port to listen on (default 0: a free one)" },
    style: { value: "STYLE", help: "what a refresh does to the refresh token", choices: STYLES },
    lifetime: { value: "DURATION", help: "of its access tokens (default 1h)" },
    seed: { value: "N", help: "the same tokens and the same luck in every run" },
  },
  about:
    "strict: rotates, and a refresh token used twice revokes the grant (default). grace: the old one works for 30 s.\nnone: never rotates.\n\nIts address is the first line it prints; its OAuth client is demo-client with the secret demo-secret. POST to /__grants\nmakes a grant as a customer's consent does, to /__revoke ends it, to /__faults makes trouble; /__stats counts it all.",
  examples: [
    { line: "keyturn simulate --port 9400 --lifetime 60s", says: "tokens that live a minute" },
    {
      line: `curl --json '{"subject":"acme","expired":true}' http://127.0.0.1:9400/__grants`,
      says: "a refresh token, for `accounts create`",
    },
    {
      line: `curl --json '{"kind":"status","status":503,"times":5}' http://127.0.0.1:9400/__faults`,
      says: "five answers of an outage",
    },
    { line: "curl http://127.0.0.1:9400/__stats", says: "what it has seen" },
  ],
  run: async ({ options, rooms }) => {
    const lifetimeMs = options.duration("lifetime") ?? 3_600_000;
    if (lifetimeMs === 0) throw invalid("--lifetime", "longer than nothing");
    return rooms.simulate({
      host: options.text("host") || "127.0.0.1",
      port: options.whole("port", 0, { max: MAX_PORT }),
      style: STYLES.find((style) => style === options.text("style")) ?? "strict",
      seed: options.has("seed") ? wholeOf("--seed", options.text("seed")) : undefined,
      lifetimeMs,
    });
  },
};

const checkConfig: Command = {
  name: "config check",
  summary: "Check a configuration file without starting anything",
  listener: undefined,
  arguments: [{ name: "FILE" }],
  options: {},
  examples: [
    { line: "keyturn config check keyturn.yaml", says: "names every fault; exit code 2 when there is one" },
  ],
  run: async ({ args, output, rooms }) => {
    const [file = ""] = args;
    const faults = await checked(() => rooms.checkConfig(file));
    if (output.json) output.object({ file, faults: [...faults] });
    else
      output.text(
        faults.length === 0
          ? `${plain(file)}: good`
          : faults.map((each) => `${plain(file)}: ${plain(each)}`).join("\n"),
      );
    return faults.length === 0 ? EXIT.done : EXIT.usage;
  },
};

/** A file so broken that reading it throws is a fault like the others. */
async function checked(work: () => Promise<readonly string[]>): Promise<readonly string[]> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof KeyturnError) || error.violations.length === 0) throw error;
    return error.violations.map(({ field, description }) => `${field}: ${description}`);
  }
}

/** Commands that run here and ask no sidecar. */
export const localCommands: readonly Command[] = [serve, demo, checkConfig, simulate];
