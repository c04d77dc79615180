import * as z from "zod";
import { secret } from "./secret.ts";

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;
const NAMES = /^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/;

/** What is mounted where: `transit`, `teams/a/transit`. */
const mount = z.string().regex(NAMES, "names with slashes between them, none at the ends");

const approle = z
  .strictObject({
    mount: mount.default("approle"),
    role_id: z.string().min(1),
    secret_id: secret.optional(),
    /** Read again at each login. */
    secret_id_file: z.string().optional(),
  })
  .refine(
    ({ secret_id: one, secret_id_file: other }) => (one === undefined) !== (other === undefined),
    "one of secret_id, secret_id_file",
  );

const kubernetes = z.strictObject({
  mount: mount.default("kubernetes"),
  role: z.string().min(1),
  /** Read again at each login, since the kubelet renews it. */
  token_file: z.string().default("/var/run/secrets/kubernetes.io/serviceaccount/token"),
});

const METHODS = ["token", "token_file", "approle", "kubernetes"] as const;

/** Vault or OpenBao, and the key of its Transit engine that wraps the data keys. */
export const vaultSchema = z
  .strictObject({
    address: z.string(),
    /** Without TLS whoever is on the way reads every data key; over loopback nobody is. */
    allow_http: z.boolean().default(false),
    namespace: mount.optional(),
    /** Who may sign Vault's certificate, in PEM. Default: the system's own. */
    ca_file: z.string().optional(),
    mount: mount.default("transit"),
    key: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, "letters, digits, dots, dashes, underscores")
      .default("keyturn"),
    token: secret.optional(),
    /** Read again when Vault does not know the token any more. */
    token_file: z.string().optional(),
    approle: approle.optional(),
    kubernetes: kubernetes.optional(),
  })
  .superRefine((vault, context) => {
    const wrong = addressFault(vault.address, vault.allow_http);
    if (wrong !== undefined) context.addIssue({ code: "custom", path: ["address"], message: wrong });
    const given = METHODS.filter((method) => vault[method] !== undefined);
    if (given.length === 1) return;
    const message = `one of ${METHODS.join(", ")}; given: ${given.join(", ") || "none"}`;
    context.addIssue({ code: "custom", path: ["token_file"], message });
  });

function addressFault(address: string, allowHttp: boolean): string | undefined {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  const isBare = url?.pathname === "/" && url.search === "" && url.username === "" && url.password === "";
  if (url === undefined || !isBare || !/^https?:$/.test(url.protocol)) {
    return "a URL of scheme, host and port, such as https://vault.example:8200";
  }
  if (url.protocol === "https:" || allowHttp || LOOPBACK.test(url.hostname)) return undefined;
  return "https, or allow_http: true knowing that data keys cross the network in the clear";
}

export type VaultConfig = z.output<typeof vaultSchema>;
