import type { Account } from "./account.ts";
import { openMaterial } from "./opening.ts";
import { key } from "./records.ts";
import type { Actor } from "./sealing.ts";
import { Secret } from "./secret.ts";
import type { ClientCertificate } from "./vendor.ts";
import type { World } from "./world.ts";

const MAX_KEPT = 64;

/** The certificates that OAuth clients show on connections to APIs: opened once, then kept sealed under this process's key. */
export class Certificates {
  readonly #world: World;
  readonly #kept = new Map<
    string,
    { readonly generation: number | undefined; readonly sealed: Uint8Array }
  >();

  constructor(world: World) {
    this.#world = world;
  }

  /** Undefined, at once, when the provider's file asks for none, and when the client has none. One read of the store otherwise. */
  of(account: Account, actor: Actor): Promise<ClientCertificate | undefined> | undefined {
    const { provider, client } = account;
    if (client === "" || this.#world.vendors.rules(provider)?.showsCertificate !== true) return undefined;
    return this.#stored(account, actor);
  }

  async #stored({ provider, client }: Account, actor: Actor): Promise<ClientCertificate | undefined> {
    const { store, sealer, vault } = this.#world;
    const at = key("client", provider, client);
    const secretsAt = key("client_secrets", provider, client);
    const view = await store.read([at, secretsAt]);
    const record = view.get(at)?.value;
    if (record?.certificate === undefined) return undefined;
    const name = `${provider}/${client}`;
    const generation = record.materialGeneration;
    const kept = this.#kept.get(name);
    if (kept?.generation === generation && kept !== undefined) return fromBytes(vault.open(kept.sealed));
    const { certificate } = await openMaterial(sealer, record, view.get(secretsAt)?.value, actor);
    if (certificate === undefined) return undefined;
    const plain = Buffer.from(JSON.stringify([certificate.chain, certificate.key.reveal()]));
    this.#kept.delete(name);
    this.#kept.set(name, { generation, sealed: vault.seal(plain) });
    plain.fill(0);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest);
    return certificate;
  }
}

function fromBytes(bytes: Uint8Array): ClientCertificate {
  const [chain, key]: readonly [string, string] = JSON.parse(Buffer.from(bytes).toString("utf8"));
  return { chain, key: new Secret(key) };
}
