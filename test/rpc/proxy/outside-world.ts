import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Serving, serve } from "../../e2e/serving-process.ts";
import { tempFolder } from "../../fakes/temp-folder.ts";
import { CA_FILE } from "../authz/vendor.ts";

/** What lies outside of a sidecar's process. */
export interface Outside {
  /** What each name resolves to, time after time; the last answer stays. */
  readonly names: Readonly<Record<string, readonly (readonly string[])[]>>;
  /** Where on this machine everything is that is not on this machine. */
  readonly port: number;
}

export interface Enclosed extends Serving {
  /** What was resolved (`asked api.test`) and dialled (`dialled 127.0.0.1:80`) since this was last read. */
  news(): readonly string[];
}

/** A whole sidecar process, in the world that `outside` describes, which trusts the authority of `CA_FILE`. */
export async function serveWithin(
  outside: Outside,
  {
    providers,
    config = "",
  }: { readonly providers: Readonly<Record<string, string>>; readonly config?: string },
): Promise<Enclosed> {
  const folder = tempFolder();
  for (const [name, text] of Object.entries(providers)) writeFileSync(join(folder, `${name}.yaml`), text);
  const file = join(tempFolder(), "outside.json");
  writeFileSync(file, JSON.stringify(outside));
  const serving = await serve({
    stateDir: tempFolder(),
    config: `providers: { directories: [${folder}] }\n${config}`,
    flags: ["--import", join(import.meta.dirname, "outside.ts")],
    env: { TEST_OUTSIDE: file, NODE_EXTRA_CA_CERTS: CA_FILE },
  });
  const log = `${file}.log`;
  const news = () => {
    const lines = existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : [];
    rmSync(log, { force: true });
    return lines;
  };
  return { ...serving, news };
}
