import type { Account } from "./account.ts";
import type { SealContext } from "./sealing.ts";

/** What a stored credential belongs to. */
export function credentialContext(account: Account, slot: string, generation: number): SealContext {
  const { id, tenant, incarnation } = account;
  return { kind: "credential", tenant, id, incarnation, slot, generation };
}

/** What a kept answer belongs to: the attempt that asked, which of its requests, and the generation it was asked with. */
export function answerContext(of: {
  readonly accountId: string;
  readonly tenant: string;
  readonly incarnation: string;
  readonly slot: string;
  readonly generation: number;
  readonly attemptId: string;
  readonly step?: number;
}): SealContext {
  const { accountId, tenant, slot, generation, step = 0 } = of;
  return {
    kind: "answer",
    tenant,
    id: accountId,
    incarnation: `${of.incarnation}/${of.attemptId}${step === 0 ? "" : `/${step}`}`,
    slot,
    generation,
  };
}

/** What an OAuth client's secrets belong to. Clients are shared by tenants. */
export function clientSecretContext(provider: string, client: string, generation: number): SealContext {
  return {
    kind: "client_secret",
    tenant: "",
    id: `${provider}/${client}`,
    incarnation: "",
    slot: "",
    generation,
  };
}

/** What the key of content marks belongs to. One for the whole environment. */
export function contentKeyContext(keyId: string): SealContext {
  return { kind: "content_key", tenant: "", id: keyId, incarnation: "", slot: "", generation: 0 };
}

/** What a started authorization belongs to. */
export function authorizationContext(
  account: Pick<Account, "id" | "tenant" | "incarnation">,
  stateHash: string,
): SealContext {
  const { id, tenant, incarnation } = account;
  return {
    kind: "authorization",
    tenant,
    id,
    incarnation: `${incarnation}/${stateHash}`,
    slot: "",
    generation: 0,
  };
}
