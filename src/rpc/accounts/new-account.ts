import { KeyturnError } from "../../errors.ts";
import type { CreateAccountRequest } from "../../gen/keyturn/v1/account_service_pb.js";
import type { NewAccount } from "../../tokens/accounts.ts";
import { key, type OAuthClient } from "../../tokens/records.ts";
import type { Store } from "../../tokens/store.ts";
import { credentialOf } from "./credential-input.ts";

/** An account as it was handed in. */
export function newAccountOf(request: CreateAccountRequest, id: string, nowMs: number): NewAccount {
  const { tenant, provider, client, labels, displayName, externalSubject, fields } = request;
  const credential = request.credential === undefined ? undefined : credentialOf(request.credential, nowMs);
  const visible = { id, tenant, provider, client, labels, displayName, externalSubject, fields };
  const tokens = Object.entries(request.tokens).map(([name, token]) => [name, credentialOf(token, nowMs)]);
  return {
    ...visible,
    credential,
    ...(tokens.length === 0 ? {} : { tokens: Object.fromEntries(tokens) }),
  };
}

/** CLIENT_NOT_FOUND. */
export async function clientNamed(store: Store, provider: string, name: string): Promise<OAuthClient> {
  const at = key("client", provider, name);
  const client = (await store.read([at])).get(at)?.value;
  if (client !== undefined) return client;
  throw new KeyturnError("CLIENT_NOT_FOUND", "There is no such OAuth client; put it first.", {
    metadata: { provider, client: name },
  });
}
