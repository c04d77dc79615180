import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CA_FILE } from "./vendor.ts";

/** The host that all providers of `providers/` but one are at. */
export const HOST = "api.example.test";

/** `deploy/envoy/envoy.yaml` for a test: its marked values are replaced, and nothing else. */
export function envoyFile(at: {
  /** gRPC target of the data listener. */
  readonly data: string;
  readonly port: number;
  readonly grpcPort: number;
  readonly apiPort: number;
}): string {
  return substituted({
    "port: where apps send their requests": String(at.port),
    "port: where apps reach Keyturn's gRPC": String(at.grpcPort),
    "socket: Keyturn's data listener": at.data.replace(/^unix:/, ""),
    "upstream: host": HOST,
    "upstream: address": "127.0.0.1",
    "upstream: port": String(at.apiPort),
    "CA: who may vouch for the provider": CA_FILE,
  });
}

/** The file with its marked values replaced, each at least once, and nothing else. */
function substituted(values: Readonly<Record<string, string>>): string {
  const file = join(import.meta.dirname, "../../../deploy/envoy/envoy.yaml");
  const used = new Set<string>();
  const text = readFileSync(file, "utf8").replaceAll(
    /^(.*[:-] )\S+( ## (.*))$/gm,
    (line, before: string, after: string, mark: string) => {
      const value = values[mark];
      if (value === undefined) throw new Error(`no value for the marked line: ${line}`);
      used.add(mark);
      return `${before}${value}${after}`;
    },
  );
  const unused = Object.keys(values).filter((mark) => !used.has(mark));
  if (unused.length > 0) throw new Error(`${file} marks no ${unused.join(", ")}`);
  return text;
}
