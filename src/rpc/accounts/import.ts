import { create } from "@bufbuild/protobuf";
import type { Clock } from "../../clock.ts";
import { invalid, isReason, type KeyturnError } from "../../errors.ts";
import {
  AccountService,
  type CreateAccountRequest,
  type ImportAccountsRequest,
  ImportAccountsResponseSchema,
  ImportOutcome,
} from "../../gen/keyturn/v1/account_service_pb.js";
import type { Accounts, NewAccount } from "../../tokens/accounts.ts";
import { FirstChecks } from "../../tokens/first-checks.ts";
import { inOrder } from "../../tokens/in-order.ts";
import type { OAuthClient } from "../../tokens/records.ts";
import { clientKeyOf } from "../../tokens/snapshot.ts";
import type { Store } from "../../tokens/store.ts";
import type { RefreshRules } from "../../tokens/vendor.ts";
import type { Report } from "../../tokens/world.ts";
import { bidi, type Handler, type StreamCall } from "../call.ts";
import { requireSight } from "../policy.ts";
import { toKeyturnError } from "../status.ts";
import { clientNamed, newAccountOf } from "./new-account.ts";

/** Accounts on their way into the store at one time. */
const AT_ONCE = 64;

export interface ImportDeps {
  readonly accounts: Pick<Accounts, "import" | "isNew">;
  readonly store: Store;
  readonly clock: Clock;
  readonly rules: (provider: string) => RefreshRules | undefined;
  readonly report: Report;
}

interface Line {
  readonly line: bigint;
  readonly accountId: string;
  readonly outcome: ImportOutcome;
  /** Undefined unless it failed. */
  readonly error: KeyturnError | undefined;
}

/** Many accounts, one result each, in their order. */
export function importAccounts(deps: ImportDeps): Handler {
  return bidi(AccountService.method.importAccounts, async (requests, call, send) => {
    const one = new ImportedLine(deps, call);
    const counts = { created: 0, unchanged: 0, failed: 0 };
    for await (const { error, ...result } of inOrder(requests, AT_ONCE, (request) => one.take(request))) {
      if (error !== undefined && endsTheCall(error)) throw error;
      counts[NAMES[result.outcome]] += 1;
      for (const [name, count] of Object.entries(counts)) call.notes[name] = String(count);
      const why = error === undefined ? {} : { reason: error.reason, message: error.message };
      await send(create(ImportAccountsResponseSchema, { ...result, ...why }));
    }
  });
}

const NAMES = {
  [ImportOutcome.UNSPECIFIED]: "failed",
  [ImportOutcome.CREATED]: "created",
  [ImportOutcome.UNCHANGED]: "unchanged",
  [ImportOutcome.FAILED]: "failed",
} as const;

/** Nothing is wrong with the one request: none after it could be stored either. */
function endsTheCall(error: KeyturnError): boolean {
  return isReason(
    error,
    "STORE_UNAVAILABLE",
    "KEK_UNAVAILABLE",
    "KEK_MISMATCH",
    "STORE_FULL",
    "STATE_DISK_FULL",
    "SHUTTING_DOWN",
  );
}

/** One import's requests, each taken by itself. */
class ImportedLine {
  readonly #deps: ImportDeps;
  readonly #call: StreamCall;
  readonly #checks = new FirstChecks();
  readonly #clients = new Map<string, Promise<OAuthClient>>();

  constructor(deps: ImportDeps, call: StreamCall) {
    this.#deps = deps;
    this.#call = call;
  }

  async take({ account, line, dryRun }: ImportAccountsRequest): Promise<Line> {
    const accountId = account?.accountId ?? "";
    try {
      if (account === undefined) throw invalid("account", "the account to store");
      if (accountId === "") throw invalid("account_id", "an id of your own, by which a repetition is known");
      const outcome = await this.#store(account, dryRun);
      return { line, accountId, outcome, error: undefined };
    } catch (error) {
      const ours = toKeyturnError(error);
      if (ours.reason === "INTERNAL_ERROR")
        this.#deps.report("account not imported", { account_id: accountId }, error);
      return { line, accountId, outcome: ImportOutcome.FAILED, error: ours };
    }
  }

  async #store(request: CreateAccountRequest, dryRun: boolean): Promise<ImportOutcome> {
    const { accounts, clock } = this.#deps;
    const { tenant, provider, client, accountId } = request;
    requireSight(this.#call.caller, { tenant, provider, account: accountId });
    const oauthClient = client === "" ? undefined : await this.#client(provider, client);
    const wanted = newAccountOf(request, accountId, clock.now());
    if (dryRun) return (await accounts.isNew(wanted)) ? ImportOutcome.CREATED : ImportOutcome.UNCHANGED;
    const actor = { caller: this.#call.caller.name, purpose: "import" };
    const outcome = await accounts.import(wanted, () => this.#firstCheck(wanted, oauthClient), actor);
    return outcome === "created" ? ImportOutcome.CREATED : ImportOutcome.UNCHANGED;
  }

  #firstCheck(wanted: NewAccount, client: OAuthClient | undefined): number {
    const budget = client?.caps.budget ?? this.#deps.rules(wanted.provider)?.budget;
    return this.#checks.take(clientKeyOf(wanted), budget, this.#deps.clock.now());
  }

  /** Each client is read once an import. */
  #client(provider: string, name: string): Promise<OAuthClient> {
    const id = JSON.stringify([provider, name]);
    const known = this.#clients.get(id) ?? clientNamed(this.#deps.store, provider, name);
    this.#clients.set(id, known);
    return known;
  }
}
