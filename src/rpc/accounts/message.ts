import { create } from "@bufbuild/protobuf";
import {
  type Account as AccountMessage,
  AccountSchema,
  AccountStatus,
} from "../../gen/keyturn/v1/account_service_pb.js";
import { type Account, type SlotState, statusOf } from "../../tokens/account.ts";
import type { OAuthClient } from "../../tokens/records.ts";
import type { Entry } from "../../tokens/store.ts";
import { revisionOf } from "../../tokens/token.ts";
import { time, timestamp } from "../wire.ts";

const STATUS = {
  PENDING: AccountStatus.PENDING,
  ACTIVE: AccountStatus.ACTIVE,
  NEEDS_REAUTH: AccountStatus.NEEDS_REAUTH,
  DISABLED: AccountStatus.DISABLED,
} as const;

/** The status callers see: one refused OAuth client makes all its active accounts MISCONFIGURED, without writing one. */
export function shownStatus(account: Account, client: OAuthClient | undefined): AccountStatus {
  const status = statusOf(account);
  return status === "ACTIVE" && client?.fault !== undefined ? AccountStatus.MISCONFIGURED : STATUS[status];
}

function reasonOf(account: Account, client: OAuthClient | undefined): string {
  if (account.disabled) return "disabled";
  const flagged = Object.values(account.slots).find((slot) => slot.state === "needs_reauth");
  if (flagged !== undefined) return flagged.reauthReason ?? "refused";
  if (Object.keys(account.slots).length === 0) return "not_connected";
  return client?.fault?.code ?? "";
}

/** An account as operators see it: without any secret. */
export function accountMessage(entry: Entry<"account">, client: OAuthClient | undefined): AccountMessage {
  const account = entry.value;
  return create(AccountSchema, {
    id: account.id,
    tenant: account.tenant,
    provider: account.provider,
    client: account.client,
    labels: account.labels,
    displayName: account.displayName,
    externalSubject: account.externalSubject,
    status: shownStatus(account, client),
    statusReason: reasonOf(account, client),
    fields: account.fields,
    slots: Object.entries(account.slots).map(([name, slot]) => slotInit(account, name, slot)),
    createTime: timestamp(account.createdAtMs),
    updateTime: timestamp(account.updatedAtMs),
    ...time("lastUsedTime", account.lastUsedAtMs),
    revision: String(entry.revision),
  });
}

function slotInit(account: Account, name: string, slot: SlotState) {
  return {
    name,
    status: slot.state === "needs_reauth" ? AccountStatus.NEEDS_REAUTH : AccountStatus.ACTIVE,
    generation: BigInt(slot.generation),
    ...time("expireTime", slot.expiresAtMs),
    ...time("nextRefreshTime", slot.nextRefreshAtMs),
    ...time("refreshTokenExpireTime", slot.refreshTokenExpiresAtMs),
    ...time("credentialExpireTime", slot.credentialExpiresAtMs),
    scopes: [...slot.scopes],
    consecutiveFailures: slot.failures,
    hint: slot.hint,
    revision: revisionOf(account, name, slot.generation),
    refreshable: slot.refreshable,
  };
}
