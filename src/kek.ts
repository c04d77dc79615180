import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "./clock.ts";
import type { Config } from "./config/schema.ts";
import type { VaultConfig } from "./config/vault.ts";
import { invalid, KeyturnError } from "./errors.ts";
import type { DiskJournal } from "./journal/journal.ts";
import type { Log } from "./log.ts";
import { openLocalKek, takeKeyring } from "./seal/kek/local.ts";
import type { VaultAuth } from "./seal/kek/vault/login.ts";
import { openTransitKek } from "./seal/kek/vault/transit.ts";
import type { Kek } from "./seal/kek.ts";
import type { Store } from "./tokens/store.ts";

export interface KekOptions {
  readonly config: Config;
  /** Secrets in it are removed once read: children and crash dumps do not inherit them. */
  readonly env: NodeJS.ProcessEnv;
  readonly stateDir: string;
  readonly store: Store;
  readonly journal: DiskJournal;
  readonly clock: Clock;
  readonly log: Log;
}

export interface OpenKek {
  readonly kek: Kek;
  close(): Promise<void>;
}

/** The configured KEK. INVALID_REQUEST when the configuration does not allow it; a Vault that is away is no error. */
export async function openKek(options: KekOptions): Promise<OpenKek> {
  const { config, env } = options;
  const keyring = takeKeyring(env);
  for (const name of SECRET_VARIABLES) delete env[name];
  const { backend, vault } = config.kek;
  if (backend === "vault-transit" && vault !== undefined) return transit(vault, options);
  options.log("the KEK is a local keyring: for development and single nodes");
  const kek = await (keyring === undefined ? ofFile(options) : openLocalKek({ keyring }, options.clock));
  return { kek, close: async () => undefined };
}

const SECRET_VARIABLES = ["KEYTURN_KEK__VAULT__TOKEN", "KEYTURN_KEK__VAULT__APPROLE__SECRET_ID"];

/** In production a KEK that lies beside its data has to be meant. */
export function requireMeant({ environment, kek }: Config): void {
  if (kek.backend !== "local" || environment !== "production" || kek.acknowledge_local) return;
  throw new KeyturnError(
    "INVALID_REQUEST",
    "kek.acknowledge_local: true is needed for a local keyring in environment production",
    {
      violations: [
        {
          field: "kek.acknowledge_local",
          description: "true, knowing that the key lies beside the data it protects",
        },
      ],
    },
  );
}

async function ofFile({ config, stateDir, store, journal, clock }: KekOptions): Promise<Kek> {
  if (config.store.backend === "etcd" && config.kek.keyring_file === undefined) {
    // Each sidecar would make one of its own, and what one seals would open nowhere else.
    throw invalid(
      "kek.keyring_file",
      "one keyring that all sidecars over etcd share (or KEYTURN_KEYRING, or kek.backend: vault-transit)",
    );
  }
  const sealed = await Promise.all([store.scan("credential", "", 1), store.scan("client_secrets", "", 1)]);
  // A new keyring opens nothing old, so one is made only where nothing has been sealed yet.
  const create = sealed.every((page) => page.entries.length === 0) && (await journal.entries()).length === 0;
  return openLocalKek({ file: config.kek.keyring_file ?? join(stateDir, "keyring.json"), create }, clock);
}

function transit(vault: VaultConfig, { clock, log }: KekOptions): OpenKek {
  const { address, namespace, mount, key, ca_file: caFile } = vault;
  const kek = openTransitKek({
    address,
    namespace,
    ca: caFile === undefined ? undefined : certificates(caFile),
    mount,
    key,
    auth: authOf(vault),
    clock,
    random: Math.random,
    report: log,
  });
  // Neither waited for nor required: with Vault away, what is cached is served. But whoever starts us should read of it.
  kek.versions().then(
    ({ newest }) => log("the KEK is in Vault", { kek: kek.id, newest }),
    (error: unknown) => log("the KEK in Vault cannot be used", { kek: kek.id }, error),
  );
  return { kek, close: async () => kek.close() };
}

function authOf({ token, token_file: tokenFile, approle, kubernetes }: VaultConfig): VaultAuth {
  if (token !== undefined) return { method: "token", token };
  if (tokenFile !== undefined) return { method: "token_file", file: tokenFile };
  if (kubernetes !== undefined) {
    const { mount, role, token_file: file } = kubernetes;
    return { method: "kubernetes", mount, role, file };
  }
  const secretId =
    approle?.secret_id ??
    (approle?.secret_id_file === undefined ? undefined : { file: approle.secret_id_file });
  if (approle === undefined || secretId === undefined) throw invalid("kek.vault", "a way to log in");
  return { method: "approle", mount: approle.mount, roleId: approle.role_id, secretId };
}

function certificates(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    throw invalid("kek.vault.ca_file", `a file that can be read; ${path} cannot`);
  }
}
