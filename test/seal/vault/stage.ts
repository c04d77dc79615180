import { readFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { systemClock } from "../../../src/clock.ts";
import { openTransitKek, type TransitKek, type TransitOptions } from "../../../src/seal/kek/vault/transit.ts";
import { Secret } from "../../../src/tokens/secret.ts";
import type { OpenBao } from "../../backends/openbao.ts";

export const DEK = Buffer.from(Array.from({ length: 32 }, (_, at) => 200 - at));

export const waiting = () => new AbortController().signal;
export const unavailable = (cause: string) => ({ reason: "KEK_UNAVAILABLE", metadata: { cause } });

/** The policies as they ship, with `key` in the place of the key's name. */
export async function putPolicies(bao: OpenBao, key = "keyturn"): Promise<void> {
  for (const name of ["sidecar", "key-administrator"]) {
    const hcl = readFileSync(join(import.meta.dirname, `../../../deploy/vault/${name}.hcl`), "utf8");
    await bao.policy(`${name}-${key}`, hcl.replaceAll("/keyturn", `/${key}`));
  }
}

let keys = 0;

/** A key of its own, with tokens that have the shipped policies for it and nothing else. */
export async function freshKey(bao: OpenBao) {
  keys += 1;
  const key = `key-${keys}`;
  await putPolicies(bao, key);
  await bao.act("POST", `transit/keys/${key}`, { type: "aes256-gcm96" });
  return {
    key,
    token: new Secret(await bao.token({ policies: [`sidecar-${key}`], ttl: "1h" })),
    authority: new Secret(await bao.token({ policies: [`key-administrator-${key}`], ttl: "1h" })),
  };
}

/** A KEK that is closed with the test; what it reported beside it. */
export function transit(
  bao: { readonly url: string },
  options: Pick<TransitOptions, "key" | "auth"> & Partial<TransitOptions>,
): TransitKek & { readonly reported: string[] } {
  const reported: string[] = [];
  const kek = openTransitKek({
    address: bao.url,
    namespace: undefined,
    ca: undefined,
    mount: "transit",
    clock: systemClock(),
    random: Math.random,
    report: (what) => reported.push(what),
    ...options,
  });
  onTestFinished(() => kek.close());
  return Object.assign(kek, { reported });
}
