import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { loadCatalogue } from "../../src/providers/load.ts";
import type { Benchmark } from "./bench.ts";
import { alternate, median, spread } from "./rounds.ts";

const SHIPPED = join(import.meta.dirname, "../../providers");
const ROUNDS = 15;

/** What every start pays for the shipped files. */
export const providerFilesBenchmark: Benchmark = {
  name: "provider-files",
  what: "Loading, validating and compiling all shipped provider files, against parsing their YAML alone.",
  async run() {
    const files = readdirSync(SHIPPED).filter((name) => name.endsWith(".yaml"));
    const msPerFile = (work: () => unknown) => async () => {
      const startMs = performance.now();
      work();
      return (performance.now() - startMs) / files.length;
    };
    const report = () => undefined;
    const first = await msPerFile(() => loadCatalogue([SHIPPED]))();
    const { start } = await alternate(ROUNDS, {
      start: async () => {
        const startMs = performance.now();
        loadCatalogue([], { directory: SHIPPED, report });
        return performance.now() - startMs;
      },
    });
    const { ours, bare } = await alternate(ROUNDS, {
      ours: msPerFile(() => loadCatalogue([SHIPPED])),
      bare: msPerFile(() => files.map((name) => parse(readFileSync(join(SHIPPED, name), "utf8")))),
    });
    return [
      {
        name: "a file at the first load of a process",
        value: first,
        unit: "ms",
        note: `${files.length} files`,
      },
      { name: "what a start waits for, all files", value: median(start), unit: "ms", note: spread(start, 2) },
      {
        name: "a file once warm",
        value: median(ours),
        unit: "ms",
        aim: { atMost: 1 },
        note: spread(ours, 2),
      },
      { name: "a file's YAML parsed alone", value: median(bare), unit: "ms", note: spread(bare, 2) },
      { name: "loading against bare parsing", value: median(ours) / median(bare), unit: "" },
    ];
  },
};
