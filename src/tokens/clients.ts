import { invalid, KeyturnError } from "../errors.ts";
import {
  type ClientMaterial,
  checkedCertificate,
  checkedPrivateKey,
  materialToBytes,
} from "./client-keys.ts";
import { clientSecretContext } from "./contexts.ts";
import { clientEvent, Draft } from "./draft.ts";
import type { EventType } from "./events.ts";
import { STORE_PATIENCE_MS } from "./limits.ts";
import { openMaterial } from "./opening.ts";
import { type ClientCaps, type ClientSecrets, key, type OAuthClient } from "./records.ts";
import type { Actor, Sealed } from "./sealing.ts";
import { hintOf, type Secret } from "./secret.ts";
import { settle } from "./settle.ts";
import type { Entry } from "./store.ts";
import type { ClientCertificate, PrivateKey } from "./vendor.ts";
import type { World } from "./world.ts";

/** As many places of one cap are read at once. */
const MOST_CONCURRENT = 1_000;

/** An OAuth client as an operator gives it. Undefined members of an existing client stay. */
export interface ClientPut {
  readonly provider: string;
  readonly name: string;
  readonly clientId: string;
  readonly secret: Secret | undefined;
  readonly privateKey?: PrivateKey | undefined;
  readonly certificate?: ClientCertificate | undefined;
  /** Further secrets by the names of the provider's file; those not named stay. */
  readonly fields?: Readonly<Record<string, Secret>> | undefined;
  readonly caps: ClientCaps;
  readonly labels: Readonly<Record<string, string>>;
}

/** What operators do to OAuth clients. */
export class Clients {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** CLIENT_NOT_FOUND. */
  async get(provider: string, name: string): Promise<Entry<"client">> {
    const at = key("client", provider, name);
    const entry = (await this.#world.store.read([at])).get(at);
    if (entry !== undefined) return entry;
    throw new KeyturnError("CLIENT_NOT_FOUND", "There is no such OAuth client.", {
      metadata: { provider, client: name },
    });
  }

  /** Creates or replaces. A new secret, key or certificate clears the fault state, and with it 40,000 accounts' MISCONFIGURED. */
  async put(wanted: ClientPut, actor: Actor): Promise<Entry<"client">> {
    const { provider, name, secret } = wanted;
    const rules = this.#world.vendors.rules(provider);
    if (rules === undefined) {
      throw new KeyturnError("PROVIDER_NOT_FOUND", "There is no provider file of this name.", {
        metadata: { provider },
      });
    }
    if (!/^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$/.test(name)) {
      throw invalid("name", "1 to 64 of A-Z a-z 0-9 . _ ~ -, starting with a letter or digit");
    }
    const { maxConcurrent } = wanted.caps;
    if (maxConcurrent !== undefined && (maxConcurrent < 1 || maxConcurrent > MOST_CONCURRENT))
      throw invalid("caps.max_concurrent", `between 1 and ${MOST_CONCURRENT}`);
    const { privateKey, certificate, fields = {} } = wanted;
    const asked = rules.clientFields ?? [];
    checkFieldNames(asked, Object.keys(fields));
    const keyFacts = privateKey && checkedPrivateKey(privateKey);
    const certificateFacts = certificate && checkedCertificate(certificate, this.#world.clock.now());
    const isNew =
      [secret, privateKey, certificate].some((given) => given !== undefined) ||
      Object.keys(fields).length > 0;
    let sealed: { readonly generation: number; readonly value: Sealed } | undefined;
    return this.#change(provider, name, async (before, secrets) => {
      const nowMs = this.#world.clock.now();
      const generation = (before?.generation ?? 0) + (!isNew && before?.clientId === wanted.clientId ? 0 : 1);
      const draft = new Draft();
      const secretFields = [...new Set([...(before?.secretFields ?? []), ...Object.keys(fields)])].sort();
      const lacking = asked.find((name) => !secretFields.includes(name));
      if (lacking !== undefined)
        throw invalid("secret_fields", `must have ${lacking}, which calls of this provider's API carry`);
      if (isNew) {
        if (sealed?.generation !== generation) {
          const old = before && (await openMaterial(this.#world.sealer, before, secrets, actor));
          const material: ClientMaterial = {
            secret: secret ?? old?.secret,
            privateKey: privateKey ?? old?.privateKey,
            certificate: certificate ?? old?.certificate,
            fields: { ...old?.fields, ...fields },
          };
          sealed = { generation, value: await this.#seal(provider, name, generation, material, actor) };
        }
        draft.put(key("client_secrets", provider, name), { generation, sealed: sealed.value });
      }
      const version = { version: String(generation), state: "active", createdAtMs: nowMs } as const;
      const client: OAuthClient = {
        provider,
        name,
        clientId: wanted.clientId,
        caps: wanted.caps,
        labels: wanted.labels,
        generation,
        secrets: secret === undefined ? (before?.secrets ?? []) : [{ ...version, hint: hintOf(secret) }],
        privateKey: keyFacts ?? before?.privateKey,
        certificate: certificateFacts ?? before?.certificate,
        materialGeneration: isNew ? generation : before?.materialGeneration,
        expiringNotifiedForMs: before?.expiringNotifiedForMs,
        secretFields,
        onHold: before?.onHold,
        fault: generation === before?.generation ? before.fault : undefined,
        createdAtMs: before?.createdAtMs ?? nowMs,
        updatedAtMs: nowMs,
      };
      const rotated = before !== undefined && isNew;
      return {
        draft,
        client,
        type: rotated ? "oauth_client:secret_rotated" : "feed:client_changed",
        reason: "put",
      };
    });
  }

  /** Stops every refresh of the client, cluster-wide and across restarts; valid tokens are still served. */
  hold(provider: string, name: string, by: string, note: string): Promise<Entry<"client">> {
    const sinceMs = this.#world.clock.now();
    return this.#amend(provider, name, "held", (client) => ({
      ...client,
      onHold: client.onHold ?? { sinceMs, by, note },
    }));
  }

  release(provider: string, name: string): Promise<Entry<"client">> {
    return this.#amend(provider, name, "released", (client) => ({ ...client, onHold: undefined }));
  }

  /** The caller makes sure that no account uses it any more. */
  async delete(provider: string, name: string): Promise<void> {
    for (;;) {
      const entry = await this.get(provider, name);
      const secretsAt = key("client_secrets", provider, name);
      const secrets = (await this.#world.store.read([secretsAt])).get(secretsAt);
      const draft = new Draft()
        .expect(entry.key, entry)
        .remove(entry)
        .expect(secretsAt, secrets)
        .remove(secrets)
        .event(
          clientEvent("feed:client_changed", { provider, client: name }, this.#world.clock.now(), "deleted"),
        );
      const result = await settle(this.#world, draft.done(this.#world.newId(), []), this.#untilMs());
      if (result.applied) return;
    }
  }

  async #amend(
    provider: string,
    name: string,
    reason: string,
    next: (client: OAuthClient) => OAuthClient,
  ): Promise<Entry<"client">> {
    await this.get(provider, name);
    return this.#change(provider, name, async (before) => {
      if (before === undefined)
        throw new KeyturnError("CLIENT_NOT_FOUND", "The OAuth client was deleted.", {
          metadata: { provider, client: name },
        });
      return {
        draft: new Draft(),
        client: { ...next(before), updatedAtMs: this.#world.clock.now() },
        type: "feed:client_changed",
        reason,
      };
    });
  }

  async #change(
    provider: string,
    name: string,
    plan: (
      before: OAuthClient | undefined,
      secrets: ClientSecrets | undefined,
    ) => Promise<{ draft: Draft; client: OAuthClient; type: EventType; reason: string }>,
  ): Promise<Entry<"client">> {
    const at = key("client", provider, name);
    const secretsAt = key("client_secrets", provider, name);
    for (let view = await this.#world.store.read([at, secretsAt]); ; ) {
      const { draft, client, type, reason } = await plan(view.get(at)?.value, view.get(secretsAt)?.value);
      draft
        .expect(at, view.get(at))
        .expect(secretsAt, view.get(secretsAt))
        .put(at, client)
        .event(clientEvent(type, { provider, client: name }, this.#world.clock.now(), reason));
      const result = await settle(
        this.#world,
        draft.done(this.#world.newId(), [at, secretsAt]),
        this.#untilMs(),
      );
      view = result.view;
      const entry = view.get(at);
      if (result.applied && entry !== undefined) return entry;
    }
  }

  #untilMs(): number {
    return this.#world.clock.boot() + STORE_PATIENCE_MS;
  }

  async #seal(
    provider: string,
    name: string,
    generation: number,
    material: ClientMaterial,
    actor: Actor,
  ): Promise<Sealed> {
    const context = clientSecretContext(provider, name, generation);
    const prepared = await this.#world.sealer.prepare(context, actor);
    const plain = materialToBytes(material);
    try {
      return prepared.seal(context, plain);
    } finally {
      plain.fill(0);
    }
  }
}

function checkFieldNames(asked: readonly string[], given: readonly string[]): void {
  const unknown = given.find((name) => !asked.includes(name));
  if (unknown === undefined) return;
  const known = asked.length === 0 ? "it has none" : `it has ${asked.join(", ")}`;
  throw invalid(`secret_fields.${unknown}`, `is not among client_fields of the provider's file: ${known}`);
}
