import dns from "node:dns/promises";
import { appendFileSync, readFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import net, { type TcpNetConnectOpts } from "node:net";
import type { Outside } from "./outside-world.ts";

// Preloaded into a sidecar's process: the world that it is shown. The file named by TEST_OUTSIDE says what names
// resolve to and where public and private addresses are; what was asked for and dialled is noted beside it.

const file = process.env["TEST_OUTSIDE"] ?? "";
const world = () => JSON.parse(readFileSync(file, "utf8")) as Outside;
const note = (line: string) => appendFileSync(`${file}.log`, `${line}\n`);
const asked = new Map<string, number>();

const lookup = async (host: string) => {
  note(`asked ${host}`);
  const answers = world().names[host] ?? [];
  const time = asked.get(host) ?? 0;
  asked.set(host, time + 1);
  const addresses = answers[Math.min(time, answers.length - 1)];
  if (addresses === undefined) throw Object.assign(new Error("no such name"), { code: "ENOTFOUND" });
  return addresses.map((address) => ({ address, family: net.isIP(address) }));
};

const { connect } = net;
const redirected = (options: TcpNetConnectOpts) => {
  note(`dialled ${options.host}:${options.port}`);
  const isHere = options.host?.startsWith("127.") === true || options.host === "::1";
  return connect(isHere ? options : { ...options, host: "127.0.0.1", port: world().port });
};

Object.assign(dns, { lookup });
Object.assign(net, {
  connect: (options: TcpNetConnectOpts | string) =>
    typeof options === "object" && "port" in options ? redirected(options) : connect(options as string),
});
syncBuiltinESMExports();
