import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  AccountService,
  type ImportAccountsRequestSchema,
  ImportOutcome,
} from "../../gen/keyturn/v1/account_service_pb.js";
import type { Connection } from "../connection.ts";
import { parseLine } from "./line.ts";
import type { ImportMark } from "./mark.ts";
import type { Row } from "./rows.ts";

/** Rows read and not yet answered: what the file is ahead of the sidecar. */
const MOST_WAITING = 1_000;

export interface LineResult {
  readonly line: number;
  readonly accountId: string;
  readonly outcome: "created" | "unchanged" | "failed";
  /** Empty unless it failed: a reason of the closed list. */
  readonly reason: string;
  /** Never with what was read. */
  readonly message: string;
}

export interface ImportRun {
  readonly connection: Pick<Connection, "exchange">;
  readonly rows: AsyncIterable<Row>;
  readonly dryRun: boolean;
  /** Undefined: nothing is remembered of this run. */
  readonly mark: ImportMark | undefined;
  readonly nowMs: () => number;
}

interface Waiting {
  readonly line: number;
  readonly sha256: string;
  result: LineResult | undefined;
}

/** A result for each row, in the order of the file, each as soon as those before it are there. */
export async function* importRows(run: ImportRun): AsyncGenerator<LineResult, void> {
  const waiting = new Line(run);
  const answers = run.connection.exchange(AccountService.method.importAccounts, waiting.requests());
  for await (const { line, accountId, outcome, reason, message } of answers) {
    waiting.answer({ line: Number(line), accountId, outcome: OUTCOMES[outcome], reason, message });
    yield* waiting.ready();
  }
  yield* waiting.ready();
}

const OUTCOMES = {
  [ImportOutcome.UNSPECIFIED]: "failed",
  [ImportOutcome.CREATED]: "created",
  [ImportOutcome.UNCHANGED]: "unchanged",
  [ImportOutcome.FAILED]: "failed",
} as const;

/** Rows on their way, in the order of the file; what is wrong with one by itself is never sent. */
class Line {
  readonly #run: ImportRun;
  readonly #waiting: Waiting[] = [];
  #onRoom: () => void = () => undefined;

  constructor(run: ImportRun) {
    this.#run = run;
  }

  async *requests(): AsyncGenerator<MessageInitShape<typeof ImportAccountsRequestSchema>, void> {
    const { rows, mark, dryRun } = this.#run;
    for await (const row of rows) {
      const sha256 = mark?.digestWith(row) ?? "";
      if (mark?.isDone(row.line, sha256) === true) continue;
      const parsed =
        "fault" in row ? ({ ok: false, accountId: "", message: row.fault } as const) : parseLine(row.value);
      const { line } = row;
      if (!parsed.ok) {
        const { accountId, message } = parsed;
        const result = { line, accountId, outcome: "failed", reason: "INVALID_REQUEST", message } as const;
        this.#waiting.push({ line, sha256, result });
      } else {
        this.#waiting.push({ line, sha256, result: undefined });
        yield { account: parsed.account, line: BigInt(line), dryRun };
      }
      if (this.#waiting.length >= MOST_WAITING)
        await new Promise<void>((resolve) => {
          this.#onRoom = resolve;
        });
    }
  }

  /** Answers come in the order of the requests. */
  answer(result: LineResult): void {
    const asked = this.#waiting.find((each) => each.result === undefined);
    if (asked !== undefined) asked.result = result;
  }

  *ready(): Generator<LineResult, void> {
    for (let head = this.#waiting[0]; head?.result !== undefined; head = this.#waiting[0]) {
      this.#waiting.shift();
      this.#run.mark?.reach(head.line, head.sha256, this.#run.nowMs());
      yield head.result;
    }
    if (this.#waiting.length < MOST_WAITING) this.#onRoom();
  }
}
