import * as z from "zod";
import { duration } from "./duration.ts";
import { egressSchema } from "./egress-proxy.ts";
import { vaultSchema } from "./vault.ts";

const port = z.int().min(0).max(65_535);

/** `host:port` of a TCP listener. */
const tcp = z.strictObject({
  host: z.string().default("127.0.0.1"),
  port,
  /** Without caller tokens everybody who reaches the port is served; that has to be said. */
  allow_unauthenticated: z.boolean().default(false),
});

const tls = z.strictObject({
  certificate_file: z.string(),
  key_file: z.string(),
  client_ca_file: z.string(),
});

const listener = z.strictObject({
  /** A Unix socket's path. Without `socket` and `tcp` the default socket is used. */
  socket: z.string().optional(),
  tcp: tcp.optional(),
});

/** Where a provider may send the customer's browser back to. */
const callback = z.strictObject({
  host: z.string().default("127.0.0.1"),
  port: port.default(7474),
  /** The listener's address as browsers and providers know it, behind your proxy. Default: `http://HOST:PORT/callback`. */
  public_url: z.url({ protocol: /^https?$/ }).optional(),
});

/** In the environment and in flags: separated by commas. */
const list = z
  .union([z.array(z.string()), z.string().transform((text) => text.split(","))], "a list of texts")
  .default([]);

/** One or more; in the environment and in flags separated by commas. */
function someOf<T extends z.ZodType>(of: T) {
  const split = (value: unknown) => (typeof value === "string" ? value.split(",") : value);
  return z.preprocess(split, z.array(of).min(1));
}

const endpoint = z
  .string()
  .regex(/^https?:\/\/[^/?#@]+$/, "an etcd endpoint such as https://etcd-0:2379, without path or login");

const store = z
  .strictObject({
    /** `embedded`: one sidecar on its state directory. `etcd`: many sidecars, one truth. */
    backend: z.enum(["embedded", "etcd"]).default("embedded"),
    /** Of etcd; all `https` or all `http`. */
    endpoints: someOf(endpoint).optional(),
    /** Before all of Keyturn's keys, in an etcd that others use too. */
    prefix: z
      .string()
      .regex(/^(\/[A-Za-z0-9._-]+)*$/, "empty, or a path such as /apps/one")
      .default(""),
    username: z.string().min(1).optional(),
    password_file: z.string().optional(),
    tls: z
      .strictObject({
        /** Default: the system's authorities. */
        ca_file: z.string().optional(),
        /** This sidecar's own certificate, where etcd asks for one. */
        certificate_file: z.string().optional(),
        key_file: z.string().optional(),
      })
      .optional(),
  })
  .superRefine((value, { addIssue }) => {
    const wrong = (path: string, message: string) =>
      addIssue({ code: "custom", path: path.split("."), message });
    if (value.backend === "etcd" && value.endpoints === undefined)
      wrong("endpoints", "where etcd is, such as [https://etcd-0:2379]");
    if (new Set(value.endpoints?.map((one) => one.startsWith("https:"))).size > 1)
      wrong("endpoints", "all https or all http");
    // Node refuses an address as the name that a TLS client asks for.
    if (value.endpoints?.some((one) => /^https:\/\/(\[|\d+(\.\d+){3}(:|$))/.test(one)))
      wrong("endpoints", "names rather than addresses where they are https");
    if ((value.username === undefined) !== (value.password_file === undefined))
      wrong("password_file", "username and password_file, both or neither");
    if ((value.tls?.certificate_file === undefined) !== (value.tls?.key_file === undefined))
      wrong("tls.key_file", "certificate_file and key_file, both or neither");
    if (value.tls !== undefined && value.endpoints?.some((one) => one.startsWith("http:")))
      wrong("endpoints", "https, since store.tls is set");
  });

/** The configuration file, version 1. Unknown keys are errors. */
export const configSchema = z.strictObject({
  version: z.literal(1, "must be 1"),
  /** Part of every sealed value and every key: what was stored in one environment does not open in another. */
  environment: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, "lower-case letters, digits and dashes")
    .default("development"),
  /** Database, journal, keyring and audit trail. Default: `$XDG_STATE_HOME/keyturn`, else `~/.local/state/keyturn`. */
  state_dir: z.string().optional(),
  listeners: z
    .strictObject({
      data: listener.prefault({}),
      admin: listener.extend({ tls: tls.optional() }).prefault({}),
      /** The same services for curl and gRPC-Web. Absent: there is none. */
      http: z.strictObject({ tcp: tcp.extend({ port: port.default(7472) }).prefault({}) }).optional(),
      /** Absent: there is none, and apps serve their own redirect address. */
      callback: callback.optional(),
    })
    .prefault({}),
  callers: z
    .strictObject({
      /** Caller tokens (hashed) and what each may do. Without it the sockets' file permissions decide. */
      file: z.string().optional(),
    })
    .prefault({}),
  store: store.prefault({}),
  /** `serve` answers callers; `schedule` refreshes ahead of expiry. 3 to 15 schedulers suffice for any number of sidecars. */
  roles: someOf(z.enum(["serve", "schedule"])).default(["serve", "schedule"]),
  kek: z
    .strictObject({
      backend: z.enum(["local", "vault-transit"]).default("local"),
      /** Default: `keyring.json` in the state directory. */
      keyring_file: z.string().optional(),
      /** The local keyring is for development and single nodes; in `environment: production` it has to be meant. */
      acknowledge_local: z.boolean().default(false),
      /** Needed by, and only read for, the backend `vault-transit`. */
      vault: vaultSchema.optional(),
    })
    .refine(({ backend, vault }) => backend !== "vault-transit" || vault !== undefined, {
      path: ["vault"],
      message: "needed with backend: vault-transit",
    })
    .prefault({}),
  providers: z
    .strictObject({
      /** Searched after the shipped files; a file of the same name overrides. */
      directories: list,
    })
    .prefault({}),
  egress: egressSchema
    .extend({
      /**
       * Names of providers whose requests may reach private networks (RFC 1918, RFC 6598, RFC 4193), over https. This
       * machine, link-local and metadata addresses stay out of reach.
       */
      allow_private: list,
    })
    .prefault({}),
  connections: z
    .strictObject({
      /** The only `return_url`s that StartAuthorization takes, each matched exactly. */
      return_urls: list,
    })
    .prefault({}),
  cache: z
    .strictObject({
      max_accounts: z.int().min(1).default(50_000),
      /** How old remembered tokens may be while the store is away. Without it they are served until they expire. */
      max_stale: duration.optional(),
    })
    .prefault({}),
  refresh: z
    .strictObject({
      /** At one token endpoint at a time, when neither client nor provider file says otherwise. */
      max_concurrent: z.int().min(1).max(10_000).default(16),
    })
    .prefault({}),
  audit: z
    .strictObject({
      to: z.enum(["files", "stdout"]).default("files"),
      every_open: z.boolean().default(false),
      retention: duration.prefault("400d"),
    })
    .prefault({}),
  limits: z
    .strictObject({
      max_request_bytes: z.int().min(1_024).default(4_194_304),
      max_concurrent_streams: z.int().min(1).default(1_000),
      /** Calls a second of one caller, of which a second's worth may come at once. Default: no limit. */
      requests_per_second: z.int().min(1).optional(),
      /** Of the body of a provider's answer to Proxy. With its headers it fits the 4 MiB that gRPC clients take. */
      max_response_bytes: z.int().min(1_024).default(4_128_768),
      /** Longest wait of a caller that sets no deadline. */
      max_wait: duration.prefault("60s"),
    })
    .prefault({}),
  /** How long a stop waits for exchanges on their way; keep it below the pod's own grace period. */
  shutdown_grace: duration.prefault("25s"),
});

export type Config = z.output<typeof configSchema>;
