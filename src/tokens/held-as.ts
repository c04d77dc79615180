import { invalid } from "../errors.ts";
import { activeVersion, type Credential, type MintingSecrets } from "./credential.ts";
import { signingKeyOf } from "./signing-key.ts";
import type { RefreshRules } from "./vendor.ts";

/**
 * A credential as it is stored for the token `slot`: a key or password from which this provider's tokens are minted is
 * kept as that. INVALID_REQUEST when the provider's accounts have no such token, it takes other secrets, or a key is none.
 */
export function heldAs(slot: string, credential: Credential, rules: RefreshRules | undefined): Credential {
  const names = rules?.tokenNames;
  if (names !== undefined && !names.includes(slot))
    throw invalid("token_name", `one of ${names.join(", ")}, which this provider's accounts have`);
  const source = sourceOf(credential);
  if (rules?.mintsFrom === undefined) {
    if (credential.kind === "unminted" && source !== undefined)
      throw invalid("credential.secrets", "this provider's tokens are not minted from a customer's secrets");
    return credential;
  }
  if (credential.kind === "oauth") return credential;
  const missing = rules.mintsFrom.find((name) => source?.[name] === undefined);
  if (missing !== undefined) throw invalid(`credential.secrets.${missing}`, "this provider needs it");
  const unknown = Object.keys(source ?? {}).find((name) => rules.mintsFrom?.includes(name) !== true);
  if (unknown !== undefined) {
    const known = rules.mintsFrom.length === 0 ? "nothing" : rules.mintsFrom.join(", ");
    throw invalid(`credential.secrets.${unknown}`, `this provider's tokens are minted from ${known}`);
  }
  const signing = rules.signsWith === undefined ? undefined : source?.[rules.signsWith];
  const key = signing === undefined ? undefined : signingKeyOf(signing.reveal());
  if (typeof key === "string") throw invalid(`credential.secrets.${rules.signsWith}`, `must be ${key}`);
  return source === undefined ? { kind: "unminted" } : { kind: "unminted", source };
}

function sourceOf(credential: Credential): MintingSecrets | undefined {
  switch (credential.kind) {
    case "oauth":
    case "unminted":
      return credential.source;
    default:
      return activeVersion(credential).values;
  }
}
