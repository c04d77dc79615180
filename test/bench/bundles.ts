import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";

const root = join(import.meta.dirname, "../..");

/** Programs as they are shipped: one CommonJS file each. */
export interface Bundles {
  readonly keyturn: string;
  readonly echo: string;
  readonly forward: string;
  remove(): void;
}

/** Builds them in a folder of their own, so that a build beside it changes nothing under a running benchmark. */
export async function buildBundles(): Promise<Bundles> {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-bench-build-"));
  copyFileSync(join(root, "package.json"), join(folder, "package.json"));
  const dist = join(folder, "dist");
  execFileSync(process.execPath, [join(root, ".ci/build.ts"), dist], { stdio: "inherit" });
  const [echo = "", forward = ""] = ["echo", "forward"].map((name) => join(folder, `${name}.cjs`));
  await build({
    entryPoints: {
      echo: join(import.meta.dirname, "echo-server.ts"),
      forward: join(import.meta.dirname, "forward-server.ts"),
    },
    outdir: folder,
    outExtension: { ".js": ".cjs" },
    bundle: true,
    platform: "node",
    target: "node24",
    format: "cjs",
    logLevel: "warning",
  });
  return {
    keyturn: join(dist, "keyturn.cjs"),
    echo,
    forward,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
