import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build, type Plugin } from "esbuild";
import { NODE_FLAGS } from "./node-flags.ts";

// A CommonJS bundle, since an ESM one breaks on the dynamic requires of its dependencies, and since Node strips no
// types under node_modules. What is read at run time lies beside it.
const root = join(import.meta.dirname, "..");
// Into `dist`, or into the folder that is named.
const [dist = join(root, "dist")] = process.argv.slice(2);

// CommonJS has no top-level await and no import.meta.
const META = "__keyturnMeta";
/** An older Node fails on the first thing that it does not have, with a page of program text. */
const OLDEST_NODE = 24;
const banner = `const ${META} = { url: require("node:url").pathToFileURL(__filename).href, dirname: __dirname, filename: __filename };`;

// Node reads the whole program before it starts, and keeps its text: what only some processes need lies apart.
const apart: Plugin = {
  name: "apart",
  setup: ({ onResolve }) =>
    onResolve({ filter: /^(undici|node-vault|etcd3)$/ }, ({ kind, path }) =>
      kind === "dynamic-import" ? { path: `./${path}.cjs`, external: true } : undefined,
    ),
};

// node-vault loads axios and, since it is given a transport, never uses it: half a megabyte of program less.
const withoutAxios: Plugin = {
  name: "without-axios",
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /^axios$/ }, () => ({ path: "axios", namespace: "nothing" }));
    onLoad({ filter: /.*/, namespace: "nothing" }, () => ({ contents: "module.exports = undefined;" }));
  },
};

// etcd3 reads its protos from a folder beside its own; in the bundle they lie beside it.
const etcdProtos: Plugin = {
  name: "etcd-protos",
  setup: ({ onLoad }) =>
    onLoad({ filter: /etcd3\/lib\/connection-pool\.js$/ }, ({ path }) => {
      const text = readFileSync(path, "utf8");
      const here = "${__dirname}/../proto/rpc.proto";
      if (!text.includes(here)) throw new Error(`${path} looks for its protos elsewhere`);
      return { contents: text.replace(here, "${__dirname}/proto/etcd/rpc.proto") };
    }),
};

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
await build({
  entryPoints: {
    program: join(root, "src/main.ts"),
    "store-worker": join(root, "src/store/embedded/worker.ts"),
    undici: "undici",
    "node-vault": "node-vault",
    etcd3: "etcd3",
  },
  outdir: dist,
  outExtension: { ".js": ".cjs" },
  bundle: true,
  platform: "node",
  target: `node${OLDEST_NODE}`,
  format: "cjs",
  define: { "import.meta": META },
  banner: { js: banner },
  plugins: [apart, withoutAxios, etcdProtos],
  // Names stay as they are, for stack traces. Licences go to a file of their own: one letter in them that is not ASCII
  // would double the memory that the text takes.
  minifyWhitespace: true,
  minifySyntax: true,
  charset: "ascii",
  legalComments: "external",
  logLevel: "warning",
});
// What V8 made of the program is kept for the next start, if this folder may be written to: nobody else can put anything
// there who could not change the program itself.
const command = join(dist, "keyturn.cjs");
writeFileSync(
  command,
  `#!/usr/bin/env -S node ${NODE_FLAGS.join(" ")}
if (Number.parseInt(process.versions.node) < ${OLDEST_NODE}) {
  console.error("error: Keyturn needs Node.js ${OLDEST_NODE} or newer; this is " + process.version + ".");
  console.error("next: Run it as npx keyturn, with the Node.js that the package brings, or install a newer one.");
  process.exit(2);
}
require("node:module").enableCompileCache(require("node:path").join(__dirname, "compile-cache"));
require("./program.cjs");
`,
);
chmodSync(command, 0o755);
cpSync(join(root, "providers"), join(dist, "providers"), { recursive: true });
cpSync(join(root, "node_modules/etcd3/proto"), join(dist, "proto/etcd"), { recursive: true });
cpSync(join(root, "proto/keyturn/v1"), join(dist, "proto/keyturn/v1"), { recursive: true });
