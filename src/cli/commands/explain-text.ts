import type { Invocation } from "../command.ts";
import type { Fact } from "../table.ts";
import { both } from "../when.ts";
import { type Explanation, identityFacts, slotFacts, statusColour, statusName } from "./account-text.ts";
import { attemptColumns } from "./attempt-columns.ts";
import { remediesOf } from "./remedies.ts";

/** From five failing accounts on a client is asked by probes only. */
const PROBING_FROM = 5;

/** Status, why and next step first, then the evidence: what a sleepy reader needs in the order it is needed. */
export function showExplanation(answer: Explanation, invocation: Invocation): void {
  const { output, clock, args } = invocation;
  const { tokenName } = answer;
  const nowMs = clock.now();
  const { account } = answer;
  const status = account === undefined ? "?" : statusName(account.status);
  const reason = account === undefined || account.statusReason === "" ? "" : ` (${account.statusReason})`;
  output.facts([
    ["account", account?.id ?? args[0], "bold"],
    ["status", `${status}${reason}`, account === undefined ? "red" : statusColour(account.status)],
    ["token", tokenName === "" || tokenName === "default" ? undefined : tokenName],
    ["why", answer.why],
    ["next step", answer.nextStep, "bold"],
  ]);
  if (account !== undefined) {
    const remedies = remediesOf(answer, account);
    const lines = remedies.map((line) => ["$", line] as const);
    if (lines.length > 0) section("Commands that help", lines, invocation);
  }
  section("In the way now", obstacles(answer, nowMs), invocation);
  output.text(`\n${output.paint("bold", "Last attempts")}`);
  if (answer.attempts.length === 0) output.text("  none on record");
  else output.table(answer.attempts, attemptColumns(nowMs, output.onTerminal), "  ");
  if (account === undefined) return;
  for (const slot of account.slots) {
    const isAsked = slot.name === tokenName || account.slots.length === 1;
    section(
      `Token ${slot.name}${isAsked ? "" : " (not the one asked about)"}`,
      slotFacts(slot, nowMs),
      invocation,
    );
  }
  section("Account", identityFacts(account, nowMs), invocation);
}

function section(title: string, lines: readonly Fact[], { output }: Invocation): void {
  output.text(`\n${output.paint("bold", title)}`);
  output.facts(lines, "  ");
}

function obstacles(answer: Explanation, nowMs: number): readonly Fact[] {
  const colour = (isInTheWay: boolean) => (isInTheWay ? "yellow" : "dim");
  return [
    ["lock", lockText(answer, nowMs), colour(answer.lock !== undefined)],
    ["open attempt", openText(answer, nowMs), colour(answer.openAttempt !== undefined)],
    ["journal", journalText(answer), colour(answer.journalAttemptIds.length > 0)],
    ["store", answer.sidecar?.storeSetBack ? "set back: refreshes wait" : undefined, "yellow"],
    ["KEK", answer.sidecar?.kekFault ? `cannot be used: ${answer.sidecar.kekFault}` : undefined, "red"],
    ...clientFacts(answer, nowMs),
  ];
}

function lockText({ lock }: Explanation, nowMs: number): string {
  if (lock === undefined) return "free";
  const until = lock.notAfter === undefined ? "" : ` until ${both(lock.notAfter, nowMs)}`;
  return `held by ${lock.instance}${until}`;
}

function openText({ openAttempt: open }: Explanation, nowMs: number): string {
  if (open === undefined) return "none";
  const since = open.time === undefined ? "" : `, sent ${both(open.time, nowMs)}`;
  const hold = open.held
    ? `only ${open.instance} may settle it until its hold has passed`
    : "its hold has passed: the next caller may send once";
  return `${open.attemptId} by ${open.instance}, generation ${open.generation}${since}; ${hold}`;
}

function journalText({ journalAttemptIds: ids }: Explanation): string {
  if (ids.length === 0) return "no kept answer on this sidecar";
  return `${ids.length} kept ${ids.length === 1 ? "answer" : "answers"} on this sidecar's disk: ${ids.join(", ")}`;
}

function clientFacts({ client, account }: Explanation, nowMs: number): readonly Fact[] {
  if (client === undefined)
    return [["OAuth client", account?.client === "" ? "has none" : "nothing in the way"]];
  const until = both(client.cooldownUntil, nowMs);
  const cooldown = until === undefined ? "" : ` until ${until}`;
  const accounts = client.failingAccounts === 1 ? "account" : "accounts";
  const failing = `${client.failingAccounts} ${accounts} in a row failed${client.failingAccounts >= PROBING_FROM ? "; only probes are sent until one succeeds" : ""}`;
  const facts: readonly Fact[] = [
    ["client hold", client.onHold ? "on hold by an operator: nothing is refreshed" : undefined, "yellow"],
    ["client fault", client.fault === "" ? undefined : `the provider refuses it: ${client.fault}`, "red"],
    ["cool-down", client.cooldownReason === "" ? undefined : `${client.cooldownReason}${cooldown}`, "yellow"],
    ["provider", client.outageSuspected ? "suspected of an outage: verdicts are held" : undefined, "yellow"],
    ["client trouble", client.failingAccounts === 0 ? undefined : failing, "yellow"],
  ];
  const shown = facts.filter(([, value]) => value !== undefined);
  return shown.length === 0 ? [["OAuth client", "nothing in the way"]] : shown;
}
