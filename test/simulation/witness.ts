import type { Account, SlotKey, SlotState } from "../../src/tokens/account.ts";
import { answerFromBytes } from "../../src/tokens/answer.ts";
import { answerContext } from "../../src/tokens/contexts.ts";
import type { Credential } from "../../src/tokens/credential.ts";
import type { JournalEntry } from "../../src/tokens/journal.ts";
import type { Attempt } from "../../src/tokens/records.ts";
import type { Chronicle } from "./chronicle.ts";
import type { Disk, DiskWatch } from "./disk.ts";
import { openNow } from "./fake-sealer.ts";
import type { LedgerWatch } from "./ledger.ts";
import type { Process } from "./machine.ts";
import type { ProviderShape } from "./plan.ts";
import type { VendorModel } from "./vendor-model.ts";
import { readBody } from "./vendor-port.ts";
import type { VirtualTime } from "./virtual-time.ts";

/** The hold counts from the attempt's record, and the first byte leaves at most 5 s after that. */
const SURELY_HELD_MS = 85_000;
const BURST_MS = 60_000;

/** One request that reached a token endpoint. */
export interface Send {
  readonly token: string;
  readonly generation: number | undefined;
  readonly process: Process;
  readonly atMs: number;
  readonly attemptId: string | undefined;
  /** The holder has written down how it ended, or that its answer is lost. */
  isConcluded: boolean;
  /** A grant was heard by the process. */
  hasGrant: boolean;
}

interface Kept {
  readonly disk: Disk;
  readonly entry: JournalEntry;
}

interface Flag {
  readonly accountId: string;
  readonly provider: string;
  readonly atMs: number;
  readonly lied: boolean;
}

/** Knows what no sidecar knows, all of it at once, and says when they have broken a promise. */
export class Witness implements LedgerWatch, DiskWatch {
  readonly #time: VirtualTime;
  readonly #chronicle: Chronicle;
  readonly #vendor: VendorModel;
  readonly #isCalm: boolean;
  readonly #accountNow: (id: string) => Account | undefined;
  readonly #sends = new Map<string, Send[]>();
  readonly #open = new Map<string, Attempt>();
  readonly #kept = new Map<string, Kept>();
  readonly #flags = new Map<string, Flag>();
  readonly #suspicions: { readonly provider: string; readonly atMs: number }[] = [];
  /** Refresh tokens that an outage refused though they live. */
  readonly #lied = new Set<string>();
  readonly #mayRevoke = new Set<string>();
  readonly #deleting = new Set<{ readonly accountId: string }>();
  /** When an incarnation was deleted, and when a slot's newest generation landed. */
  readonly deletedAtMs = new Map<string, number>();
  readonly storedAtMs = new Map<string, { readonly generation: number; readonly atMs: number }>();

  constructor(
    time: VirtualTime,
    chronicle: Chronicle,
    vendor: VendorModel,
    accountNow: (id: string) => Account | undefined,
    isCalm: boolean,
  ) {
    this.#isCalm = isCalm;
    this.#time = time;
    this.#chronicle = chronicle;
    this.#vendor = vendor;
    this.#accountNow = accountNow;
  }

  // ── at the token endpoint ──

  sending(process: Process, provider: ProviderShape, of: SlotKey, token: string, instance: string): Send {
    const earlier = this.#sends.get(token) ?? [];
    const attempt = this.#open.get(nameOf(of));
    const generation = this.#accountNow(of.accountId)?.slots[of.slot]?.generation;
    const send: Send = {
      token,
      generation,
      process,
      atMs: this.#time.nowMs,
      attemptId: attempt?.instance === instance ? attempt.attemptId : undefined,
      isConcluded: false,
      hasGrant: false,
    };
    if (this.#isCalm && earlier.some((before) => before.generation === generation))
      this.#chronicle.broken("one refresh for a generation on a calm day", `${nameOf(of)} ${generation}`);
    if (provider.style === "strict") this.#checkRisk(process, of, earlier);
    if (provider.style === "strict") for (const before of earlier) this.#checkResend(send, before);
    this.#sends.set(token, [...earlier, send]);
    return send;
  }

  /** After a request whose answer may be lost, nothing is risked while the access token is good. */
  #checkRisk({ host, clock }: Process, of: SlotKey, earlier: readonly Send[]): void {
    const slot = this.#accountNow(of.accountId)?.slots[of.slot];
    const isInDoubt = slot?.unknownSinceMs !== undefined || earlier.some((send) => !send.isConcluded);
    const leftMs = (slot?.expiresAtMs ?? 0) - clock.now();
    if (isInDoubt && earlier.length > 0 && leftMs > 6_000 && this.#time.nowMs - host.jumpedAtMs > 10_000)
      this.#chronicle.broken(
        "nothing is risked while the access token is good",
        `${nameOf(of)}: ${leftMs} ms left`,
      );
  }

  #checkResend(send: Send, before: Send): void {
    this.#chronicle.seen("a refresh token sent again");
    if (send.atMs - before.atMs >= SURELY_HELD_MS) return;
    const where = `${send.token} by ${send.process.host.name}, ${send.atMs - before.atMs} ms after ${before.process.host.name}`;
    if (!before.isConcluded) this.#chronicle.broken("nothing is resent inside its hold", where);
    else if (this.#isKeptAlive(before))
      this.#chronicle.broken("nothing is sent twice while an answer to it is kept", where);
  }

  #isKeptAlive(send: Send): boolean {
    if (!send.hasGrant) return false;
    const kept = send.attemptId === undefined ? undefined : this.#kept.get(send.attemptId);
    return send.process.state !== "dead" || (kept !== undefined && !kept.disk.isLost);
  }

  lie(token: string): void {
    this.#lied.add(token);
  }

  /** A deletion with revocation begins. Returns what to call when it has ended. */
  mayRevoke(accountId: string): () => void {
    const incarnation = this.#accountNow(accountId)?.incarnation;
    if (incarnation !== undefined) this.#mayRevoke.add(incarnation);
    const deletion = { accountId };
    this.#deleting.add(deletion);
    return () => this.#deleting.delete(deletion);
  }

  revoking(accountId: string, incarnation: string): void {
    // Deleted and created anew between the asking and the reading: it is this one that is being deleted.
    if ([...this.#deleting].some((deletion) => deletion.accountId === accountId))
      this.#mayRevoke.add(incarnation);
    if (this.#mayRevoke.has(incarnation)) return;
    this.#chronicle.broken("a grant is revoked only when its deletion asked for it", accountId);
  }

  // ── on disks ──

  kept(disk: Disk, entry: JournalEntry): void {
    this.#kept.set(entry.attemptId, { disk, entry });
  }

  removed(entry: JournalEntry): void {
    if (this.#isSettled(entry)) return;
    this.#chronicle.broken(
      "a kept answer is served, superseded or dropped with its account",
      `${entry.accountId}: removed`,
    );
  }

  #isSettled(entry: JournalEntry): boolean {
    if (!holdsGrant(entry)) return true;
    const account = this.#accountNow(entry.accountId);
    if (account?.incarnation !== entry.incarnation) return true;
    return (account.slots[entry.slot]?.generation ?? 0) > entry.generation;
  }

  // ── in the store ──

  attempted(attempt: Attempt, of: SlotKey): void {
    this.#open.set(nameOf(of), attempt);
  }

  concluded(attempt: Attempt, of: SlotKey): void {
    if (this.#open.get(nameOf(of))?.attemptId === attempt.attemptId) this.#open.delete(nameOf(of));
    for (const sends of this.#sends.values())
      for (const send of sends) if (send.attemptId === attempt.attemptId) send.isConcluded = true;
  }

  suspected(provider: string): void {
    this.#suspicions.push({ provider, atMs: this.#time.nowMs });
  }

  stored(account: Account, of: SlotKey, slot: SlotState): void {
    const at = { generation: slot.generation, atMs: this.#time.nowMs };
    this.storedAtMs.set(`${account.incarnation}/${of.slot}`, at);
    this.#flags.delete(nameOf(of));
  }

  deleted(account: Account, revoke: boolean): void {
    this.deletedAtMs.set(account.incarnation, this.#time.nowMs);
    for (const slot of Object.keys(account.slots))
      this.#flags.delete(nameOf({ accountId: account.id, slot }));
    if (revoke) this.revoking(account.id, account.incarnation);
  }

  flagged(account: Account, of: SlotKey, slot: SlotState, credential: Credential | undefined): void {
    const token = credential?.kind === "oauth" ? credential.refreshToken?.reveal() : undefined;
    const { nowMs } = this.#time;
    const lied = token !== undefined && this.#vendor.honours(token);
    this.#chronicle.seen(lied ? "flagged in an outage" : `flagged (${slot.reauthReason})`);
    this.#flags.set(nameOf(of), { accountId: account.id, provider: account.provider, atMs: nowMs, lied });
    if (!lied) return;
    if (!this.#lied.has(token)) {
      this.#chronicle.broken("nothing is flagged that the vendor still honours", account.id);
      return;
    }
    const burst = [...this.#flags.values()].filter(
      (flag) => flag.lied && flag.provider === account.provider && nowMs - flag.atMs < BURST_MS,
    );
    const accounts = new Set(burst.map((flag) => flag.accountId)).size;
    if (accounts > 3)
      this.#chronicle.broken(
        "nothing is flagged that the vendor still honours",
        `${account.id}: ${accounts} at once`,
      );
  }

  unflagged(of: SlotKey): void {
    this.#flags.delete(nameOf(of));
  }

  // ── at the end ──

  /** Flagged during an outage that was never suspected: nobody could know better. */
  isExcused(of: SlotKey): boolean {
    const flag = this.#flags.get(nameOf(of));
    if (flag === undefined || !flag.lied) return false;
    return !this.#suspicions.some(
      ({ provider, atMs }) => provider === flag.provider && atMs >= flag.atMs && atMs - flag.atMs < BURST_MS,
    );
  }

  /** After everything has been healed and settled. */
  checkKept(): void {
    for (const { disk, entry } of this.#kept.values()) {
      if (disk.isLost || this.#isSettled(entry)) continue;
      this.#chronicle.broken(
        "a kept answer is served, superseded or dropped with its account",
        `${entry.accountId} generation ${entry.generation}: lost`,
      );
    }
  }
}

const nameOf = ({ accountId, slot }: SlotKey) => `${accountId}/${slot}`;

function holdsGrant(entry: JournalEntry): boolean {
  const answer = answerFromBytes(openNow(answerContext(entry), entry.sealed));
  return readBody(answer).kind === "granted";
}
