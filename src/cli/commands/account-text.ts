import type { MessageShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type AccountSchema,
  AccountStatus,
  type ExplainAccountResponseSchema,
} from "../../gen/keyturn/v1/account_service_pb.js";
import type { Invocation } from "../command.ts";
import type { Colour } from "../paint.ts";
import type { Column, Fact } from "../table.ts";
import { both, cell } from "../when.ts";

export type Account = MessageShape<typeof AccountSchema>;
export type Explanation = MessageShape<typeof ExplainAccountResponseSchema>;
type Slot = Account["slots"][number];

/** `NEEDS_REAUTH`; `?` for one that this version does not know. */
export function statusName(status: AccountStatus): string {
  return status === AccountStatus.UNSPECIFIED ? "?" : (AccountStatus[status] ?? "?");
}

export function statusColour(status: AccountStatus): Colour {
  switch (status) {
    case AccountStatus.ACTIVE:
      return "green";
    case AccountStatus.PENDING:
      return "yellow";
    case AccountStatus.DISABLED:
      return "dim";
    default:
      return "red";
  }
}

/** The soonest of the account's slots; undefined when none has one. */
function soonest(account: Account, of: (slot: Slot) => Timestamp | undefined): Timestamp | undefined {
  const times = account.slots.flatMap((slot) => of(slot) ?? []);
  return times.sort((a, b) => timestampMs(a) - timestampMs(b))[0];
}

/** Columns of `accounts list`. */
export function accountColumns({ clock, output }: Invocation): readonly Column<Account>[] {
  const nowMs = clock.now();
  const at = (time: Timestamp | undefined) => cell(time, nowMs, output.onTerminal);
  return [
    { title: "ACCOUNT", of: ({ id }) => id, whole: true },
    {
      title: "STATUS",
      of: ({ status }) => statusName(status),
      whole: true,
      paint: ({ status }, text, paint) => paint(statusColour(status), text),
    },
    { title: "PROVIDER", of: ({ provider }) => provider },
    { title: "CLIENT", of: ({ client }) => client },
    { title: "TENANT", of: ({ tenant }) => tenant },
    { title: "EXPIRES", of: (account) => at(soonest(account, ({ expireTime }) => expireTime)) },
    {
      title: "NEXT REFRESH",
      of: (account) => at(soonest(account, ({ nextRefreshTime }) => nextRefreshTime)),
    },
    { title: "REASON", of: ({ statusReason }) => statusReason },
  ];
}

/** `team=crm, tier=1`. */
export function pairsText(pairs: Readonly<Record<string, string>>): string {
  return Object.entries(pairs)
    .map(([key, value]) => `${key}=${value}`)
    .join(", ");
}

/** Whose account it is and what it is connected to. */
export function identityFacts(account: Account, nowMs: number): readonly Fact[] {
  return [
    ["name", account.displayName],
    ["provider", account.provider],
    ["client", account.client],
    ["tenant", account.tenant],
    ["subject", account.externalSubject],
    ["labels", pairsText(account.labels)],
    ["fields", pairsText(account.fields)],
    ["created", both(account.createTime, nowMs)],
    ["last used", both(account.lastUsedTime, nowMs)],
  ];
}

function expiryText({ expireTime, generation }: Slot, nowMs: number): string | undefined {
  // What is minted when somebody asks has ended since ever.
  if (expireTime?.seconds === 0n) return "not minted yet";
  return both(expireTime, nowMs) ?? (generation === 0n ? undefined : "never");
}

/** One token of it: its dates and what is planned. */
export function slotFacts(slot: Slot, nowMs: number): readonly Fact[] {
  const planned = slot.refreshable ? "not planned" : "cannot be refreshed";
  return [
    ["status", statusName(slot.status), statusColour(slot.status)],
    ["expires", expiryText(slot, nowMs)],
    ["next refresh", both(slot.nextRefreshTime, nowMs) ?? planned],
    ["refresh token ends", both(slot.refreshTokenExpireTime, nowMs)],
    ["credential ends", both(slot.credentialExpireTime, nowMs)],
    [
      "failures in a row",
      slot.consecutiveFailures === 0 ? undefined : `${slot.consecutiveFailures}`,
      "yellow",
    ],
    ["generation", `${slot.generation}`],
    ["scopes", slot.scopes.join(" ")],
    ["secret", slot.hint],
    ["revision", slot.revision],
  ];
}

/** The whole of `accounts get`, and what is said after a change. */
export function showAccount(account: Account, { output, clock }: Invocation): void {
  const nowMs = clock.now();
  const reason = account.statusReason === "" ? "" : ` (${account.statusReason})`;
  output.facts([
    ["account", account.id],
    ["status", `${statusName(account.status)}${reason}`, statusColour(account.status)],
    ...identityFacts(account, nowMs),
    ["revision", account.revision],
  ]);
  for (const slot of account.slots) {
    output.text("");
    output.facts([["token", slot.name, "bold"], ...slotFacts(slot, nowMs)]);
  }
}
