import { readFileSync } from "node:fs";
import type { Config } from "./config/schema.ts";
import { KeyturnError } from "./errors.ts";
import type { Log } from "./log.ts";
import type { Fault } from "./providers/document.ts";
import { type Catalogue, faultText, loadCatalogue } from "./providers/load.ts";

/** The provider files of a configuration. INVALID_REQUEST tells all faults of the operator's own ones. */
export function readCatalogue(shipped: string, { providers, egress }: Config, log: Log): Catalogue {
  const report = (faults: readonly Fault[]) => {
    for (const fault of faults) log("a shipped provider file does not load", { fault: faultText(fault) });
  };
  const { allow_private: allowPrivate } = egress;
  const loaded = loadCatalogue(providers.directories, { directory: shipped, report }, allowPrivate);
  if (loaded.ok) {
    const { names } = loaded.catalogue;
    for (const name of allowPrivate.filter((each) => !names.includes(each)))
      log("egress.allow_private names a provider that has no file", { provider: name });
    return loaded.catalogue;
  }
  const violations = loaded.faults.map((fault) => ({
    field: fault.path === "" ? fault.file : fault.path,
    description: faultText(fault),
  }));
  throw new KeyturnError("INVALID_REQUEST", loaded.faults.map(faultText).join("\n"), { violations });
}

/** A provider as ProviderService lists it. */
export function shownProvider(catalogue: Catalogue, name: string) {
  const provider = catalogue.get(name);
  const setup = provider?.file.setup;
  return {
    name,
    format: provider?.file.credentials.format ?? "",
    source: catalogue.source(name) ?? "",
    setup: setup === undefined ? "" : JSON.stringify(setup, undefined, 2),
    accountFields: Object.keys(provider?.file.account_fields ?? {}),
  };
}

/** The file itself; undefined when there is none. */
export function textOf(catalogue: Catalogue, name: string): string | undefined {
  const source = catalogue.source(name);
  return source === undefined ? undefined : readFileSync(source, "utf8");
}
