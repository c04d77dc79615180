import { execFileSync } from "node:child_process";
import { connect } from "node:net";
import { join } from "node:path";
import type { Etcd, EtcdOptions } from "./etcd.ts";

/** Paths of PEM files. */
export type Certificates = Readonly<Record<"ca" | "cert" | "key", string>>;

/** An authority, and what it signed for `localhost` and 127.0.0.1 as a server and a client, in an empty folder. */
export function certificates(folder: string): Certificates {
  const files = { ca: join(folder, "ca.pem"), cert: join(folder, "cert.pem"), key: join(folder, "key.pem") };
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const caKey = join(folder, "ca-key.pem");
  openssl("req", "-x509", ...curve, "-keyout", caKey, "-out", files.ca, "-subj", "/CN=test authority");
  const signed = ["-CA", files.ca, "-CAkey", caKey, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const usage = ["-addext", "extendedKeyUsage=serverAuth,clientAuth"];
  const out = ["-keyout", files.key, "-out", files.cert, "-subj", "/CN=keyturn"];
  openssl("req", "-x509", ...curve, ...signed, ...usage, ...out);
  return files;
}

/** An etcd that nobody talks to without a certificate of the authority. Its JSON gateway wants one too. */
export function withClientCertificates({ ca, cert, key }: Certificates): EtcdOptions & {
  readonly flags: readonly string[];
} {
  return {
    scheme: "https",
    isReady: isOpen,
    flags: [`--cert-file=${cert}`, `--key-file=${key}`, "--client-cert-auth", `--trusted-ca-file=${ca}`],
  };
}

/** True when the port takes connections. */
function isOpen(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

/** From now on etcd asks for a login. There is `keyturn`, who may read and write under `prefix` and nothing else. */
export async function enableUsers(etcd: Etcd, prefix: string, password: string): Promise<void> {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  await etcd.call("auth/role/add", { name: "root" });
  await etcd.call("auth/user/add", { name: "root", password: "root-password" });
  await etcd.call("auth/user/grant", { user: "root", role: "root" });
  await etcd.call("auth/role/add", { name: "keyturn" });
  const range = { key: base64(`${prefix}/`), range_end: base64(`${prefix}0`) };
  await etcd.call("auth/role/grant", { name: "keyturn", perm: { permType: "READWRITE", ...range } });
  await etcd.call("auth/user/add", { name: "keyturn", password });
  await etcd.call("auth/user/grant", { user: "keyturn", role: "keyturn" });
  await etcd.call("auth/enable", {});
}
