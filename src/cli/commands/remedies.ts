import { AccountStatus } from "../../gen/keyturn/v1/account_service_pb.js";
import { shellWord } from "../shell-word.ts";
import type { Account, Explanation } from "./account-text.ts";

/** Commands to paste, the likeliest remedy first; empty when nothing is wrong. */
export function remediesOf(answer: Explanation, account: Account): readonly string[] {
  const id = shellWord(account.id);
  const client = `${shellWord(account.provider)} ${shellWord(account.client)}`;
  const lines: string[] = [];
  if ((answer.sidecar?.kekFault ?? "") !== "") lines.push("keyturn keys status");
  if (answer.journalAttemptIds.length > 0) {
    // A kept answer beats every other remedy: it is the token that everybody else is missing.
    lines.push(isUnmapped(answer) ? `keyturn accounts remap ${id}` : "keyturn journal replay");
  }
  if (answer.sidecar?.storeSetBack === true) lines.push("keyturn journal accept-restore");
  if (account.status === AccountStatus.DISABLED) lines.push(`keyturn accounts enable ${id}`);
  if (answer.client?.onHold === true) lines.push(`keyturn clients release ${client}`);
  if (account.status === AccountStatus.MISCONFIGURED || (answer.client?.fault ?? "") !== "") {
    lines.push(`keyturn clients put ${client} --client-id ID --client-secret-file -`);
  }
  if (account.status === AccountStatus.NEEDS_REAUTH || account.status === AccountStatus.PENDING) {
    const { tokenName } = answer;
    const token = tokenName === "" || tokenName === "default" ? "" : ` --token-name ${tokenName}`;
    lines.push(`keyturn accounts put-credential ${id}${token} ${credentialOption(account)} -`);
  }
  if ((answer.client?.cooldownReason ?? "") !== "") lines.push(`keyturn clients usage ${client}`);
  return lines;
}

function isUnmapped({ attempts }: Explanation): boolean {
  return attempts.some(({ outcome }) => outcome === "unmapped");
}

function credentialOption({ client }: Account): string {
  return client === "" ? "--api-key-file" : "--refresh-token-file";
}
