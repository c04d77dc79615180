import { isReason } from "../errors.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import { answerFromBytes, type KeptAnswer } from "./answer.ts";
import type { ConnectedWriter } from "./connected.ts";
import type { ConnectionSubjects } from "./connection-subjects.ts";
import { answerContext } from "./contexts.ts";
import { introduced } from "./introducing.ts";
import type { JournalEntry } from "./journal.ts";
import { mayPass } from "./patience.ts";
import { key } from "./records.ts";
import { type Redeeming, type Redemption, Rooms } from "./redemption.ts";
import type { Actor } from "./sealing.ts";
import { Secret } from "./secret.ts";
import type { World } from "./world.ts";

/** What connections are made with. */
export interface ConnectionParts {
  readonly world: World;
  readonly subjects: ConnectionSubjects;
  readonly redemption: Redemption;
  readonly writer: ConnectedWriter;
  /** Aborts when what is not saved by then is left to the next start. */
  readonly gone: AbortSignal;
}

/** Answers to codes that an earlier life of this process left behind. */
export class ConnectionReplay {
  readonly #parts: ConnectionParts;

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
  }

  /**
   * The kept answers of one exchange that an earlier life did not store. One that the account has moved on from is
   * dropped; true when it is settled, false when it stays in the journal.
   */
  async exchange(kept: readonly JournalEntry[], actor: Actor): Promise<boolean> {
    const { world } = this.#parts;
    const [entry] = kept;
    if (entry === undefined) return true;
    const { attemptId, generation, accountId } = entry;
    const at = key("account", accountId);
    const account = (await world.store.read([at])).get(at)?.value;
    const isCurrent = account?.incarnation === entry.incarnation && generationOf(account) === generation;
    if (account === undefined || !isCurrent) {
      await world.journal.remove(attemptId);
      return true;
    }
    const opened: Buffer[] = [];
    try {
      for (const each of kept) opened.push(await world.sealer.open(answerContext(each), each.sealed, actor));
      return await this.#resume(account, entry, opened.map(answerFromBytes), actor);
    } catch (error) {
      if (mayPass(error)) throw error;
      // The start goes on without it; a mended file or a later start may still make something of it.
      world.report("kept connection not stored", { account_id: accountId }, error);
      return false;
    } finally {
      for (const bytes of opened) bytes.fill(0);
    }
  }

  async #resume(
    account: Account,
    { attemptId, generation }: JournalEntry,
    answers: readonly KeptAnswer[],
    actor: Actor,
  ): Promise<boolean> {
    const { world, redemption, writer, gone } = this.#parts;
    const redeeming = await this.#kept(account, { attemptId, generation }, answers, actor);
    const steps = world.consents.steps(account.provider);
    const rooms = new Rooms();
    try {
      await redemption.prepare(rooms, { account, attemptId, generation, from: answers.length, steps });
    } catch (error) {
      rooms.discard();
      throw error;
    }
    const { grant } = await redemption.run(redeeming, rooms, Number.POSITIVE_INFINITY);
    if (grant.kind === "unmapped") return false;
    if (grant.kind === "granted") {
      const only = (now: Account) => generationOf(now) === generation;
      try {
        const connected = await introduced(world, redeeming.context, grant, redeeming.note, gone);
        await writer.write(account, connected, actor, { only });
      } catch (error) {
        if (!isDecided(error)) throw error;
        world.report("kept connection refused", { account_id: account.id }, error);
      }
    }
    await world.journal.remove(attemptId);
    return true;
  }

  async #kept(
    account: Account,
    of: Pick<Redeeming, "attemptId" | "generation">,
    answers: readonly KeptAnswer[],
    actor: Actor,
  ): Promise<Redeeming> {
    const { subjects } = this.#parts;
    const nothing = { redirectUri: "", scopes: [], fields: {}, allowIdentityChange: false };
    const note = answers.find((answer) => answer.note !== undefined)?.note ?? nothing;
    return {
      ...of,
      context: {
        account: { ...account, fields: { ...account.fields, ...note.fields } },
        slot: DEFAULT_SLOT,
        credential: { kind: "unminted" },
        client: await subjects.opened(await subjects.client(account), actor),
      },
      // The code is spent.
      code: { code: new Secret(""), redirectUri: note.redirectUri, codeVerifier: undefined, state: "" },
      note,
      answers,
    };
  }
}

/** Moves with whatever token of the account is stored: what a crash has left is not stored over something newer. */
export function generationOf(account: Account): number {
  return Object.values(account.slots).reduce((sum, slot) => sum + slot.generation, 0);
}

/** Trying again would come to the same. */
function isDecided(error: unknown): boolean {
  return isReason(error, "IDENTITY_MISMATCH", "ACCOUNT_NOT_FOUND", "INVALID_REQUEST");
}
