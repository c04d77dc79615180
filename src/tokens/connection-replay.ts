import { type Account, DEFAULT_SLOT } from "./account.ts";
import { answerFromBytes, type KeptAnswer } from "./answer.ts";
import { type CodeExchanges, generationOf } from "./code-exchanges.ts";
import type { ConnectionSubjects } from "./connection-subjects.ts";
import { answerContext } from "./contexts.ts";
import type { Exchanges } from "./exchanges.ts";
import type { Journal, JournalEntry } from "./journal.ts";
import { mayPass } from "./patience.ts";
import { key } from "./records.ts";
import type { Redeeming } from "./redemption.ts";
import type { Actor } from "./sealing.ts";
import { Secret } from "./secret.ts";
import type { World } from "./world.ts";

/** What kept answers become accounts with. */
export interface ConnectionReplayParts {
  readonly world: World;
  readonly subjects: ConnectionSubjects;
  readonly codes: CodeExchanges;
  readonly exchanges: Exchanges;
}

/** Answers to codes that an earlier life of this process, or an instance that is gone, left behind. */
export class ConnectionReplay {
  readonly #parts: ConnectionReplayParts;

  constructor(parts: ConnectionReplayParts) {
    this.#parts = parts;
  }

  /**
   * The kept answers of one exchange. One that the account has moved on from is dropped; true when it is settled, false
   * when it stays in the journal, to be gone on with in the background where that is this process's own.
   */
  async exchange(kept: readonly JournalEntry[], journal: Journal, actor: Actor): Promise<boolean> {
    const { world } = this.#parts;
    const [entry] = kept;
    if (entry === undefined) return true;
    const { attemptId, generation, accountId } = entry;
    const at = key("account", accountId);
    const account = (await world.store.read([at])).get(at)?.value;
    const isCurrent = account?.incarnation === entry.incarnation && generationOf(account) === generation;
    // Without the first answer those after it are of no use.
    if (account === undefined || !isCurrent || (entry.step ?? 0) !== 0) {
      await journal.remove(attemptId);
      return true;
    }
    const opened: Buffer[] = [];
    try {
      for (const each of kept) opened.push(await world.sealer.open(answerContext(each), each.sealed, actor));
      const redeeming = await this.#redeeming(account, kept, opened.map(answerFromBytes), actor);
      return await this.#resume(redeeming, journal, actor);
    } catch (error) {
      if (mayPass(error)) throw error;
      // The start goes on without it; a mended file or a later start may still make something of it.
      world.report("kept connection not stored", { account_id: accountId }, error);
      return false;
    } finally {
      for (const bytes of opened) bytes.fill(0);
    }
  }

  async #resume(redeeming: Redeeming, journal: Journal, actor: Actor): Promise<boolean> {
    const { world, codes, exchanges } = this.#parts;
    const { attemptId } = redeeming;
    const about = { account_id: redeeming.context.account.id };
    const progress = await exchanges.track(attemptId, () => codes.resume(redeeming, actor));
    if (progress.kind === "over") world.report("kept connection refused", about, progress.fault);
    if (progress.kind === "stored" || progress.kind === "over") {
      await journal.remove(attemptId);
      return true;
    }
    // Another instance's stays where it is, whole.
    if (journal !== world.journal) await world.journal.remove(attemptId);
    else if (progress.kind === "unfinished")
      void exchanges
        .track(attemptId, () => codes.goOn(progress.redeeming, progress.fault, actor))
        .catch((error: unknown) => world.report("kept connection not stored", about, error));
    return false;
  }

  async #redeeming(
    account: Account,
    kept: readonly JournalEntry[],
    answers: readonly KeptAnswer[],
    actor: Actor,
  ): Promise<Redeeming> {
    const { subjects } = this.#parts;
    const nothing = { redirectUri: "", scopes: [], fields: {}, allowIdentityChange: false };
    const note = answers.find((answer) => answer.note !== undefined)?.note ?? nothing;
    const [first, last] = [kept[0], kept.at(-1)];
    return {
      attemptId: first?.attemptId ?? "",
      generation: first?.generation ?? 0,
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
      kept: (last?.step ?? 0) + 1,
      isResumed: true,
    };
  }
}
