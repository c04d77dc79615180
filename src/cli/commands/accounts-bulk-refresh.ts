import {
  AccountService,
  type BulkRefreshAccountsResponse,
  BulkRefreshAccountsResponseSchema,
  BulkRefreshOutcome,
} from "../../gen/keyturn/v1/account_service_pb.js";
import type { Command, Invocation } from "../command.ts";
import { EXIT } from "../exit.ts";
import { plain } from "../paint.ts";
import { Progress } from "../progress.ts";

/** Replace the tokens of many accounts, in an incident for example. */
export const accountsBulkRefresh: Command = {
  name: "accounts bulk-refresh",
  summary: "Refresh many accounts now, behind everybody who needs a token",
  listener: "admin",
  arguments: [],
  options: {
    provider: { value: "PROVIDER", help: "accounts of this provider" },
    client: { value: "NAME", help: "accounts of this OAuth client; needs --provider" },
    tenant: { value: "TENANT", help: "accounts of this customer of yours" },
    label: { value: "KEY=VALUE", help: "accounts with this label", many: true },
    "revoke-previous": { help: "end each replaced access token at the provider" },
    "dry-run": { help: "say what would be refreshed, and ask no provider" },
    continue: { value: "CURSOR", help: "go on with a stopped one; nothing else is given then" },
  },
  about: `It obeys the clients' caps, waits while one cools down, and leaves a quarter of the places to live callers. Ctrl-C
stops it after what has begun; it prints the cursor to go on with, which survives the sidecar's restart. A refresh whose
outcome is unknown is never sent again by this.

--revoke-previous needs a provider whose file says that a grant outlives its access token's revocation. Text output names
what was not refreshed, --json gives every result. The exit code is 1 when an account failed.`,
  examples: [
    { line: "keyturn accounts bulk-refresh --tenant acme --dry-run", says: "how many, and which" },
    {
      line: "keyturn accounts bulk-refresh --provider simulator --client main --revoke-previous",
      says: "after a leak of tokens",
    },
  ],
  run: async (invocation) => {
    const { options, connect, output, io } = invocation;
    const progress = new Progress(io);
    const connection = await connect();
    let last: BulkRefreshAccountsResponse | undefined;
    try {
      for await (const message of connection.stream(AccountService.method.bulkRefreshAccounts, {
        provider: options.text("provider"),
        client: options.text("client"),
        tenant: options.text("tenant"),
        labels: options.pairs("label"),
        revokePrevious: options.has("revoke-previous"),
        dryRun: options.has("dry-run"),
        resumeCursor: options.text("continue"),
      })) {
        last = message;
        if (output.json) output.message(BulkRefreshAccountsResponseSchema, message);
        else show(message, progress, invocation);
      }
    } finally {
      progress.end();
      if (last?.finished === false && last.cursor !== "")
        output.note(`Go on with: keyturn accounts bulk-refresh --continue ${last.cursor}`);
    }
    if (last?.finished !== true) return EXIT.failed;
    if (!output.json) output.text(summary(last, options.has("dry-run")));
    return last.failed > 0n ? EXIT.failed : EXIT.done;
  },
};

function show(
  { result, done, total }: BulkRefreshAccountsResponse,
  progress: Progress,
  { output, options }: Invocation,
): void {
  if (result !== undefined) {
    const { accountId, tokenName, outcome, reason, message } = result;
    const isRefreshed = outcome === BulkRefreshOutcome.REFRESHED;
    const isNews =
      !isRefreshed || options.has("dry-run") || (options.has("revoke-previous") && !result.previousRevoked);
    const why = isRefreshed
      ? options.has("dry-run")
        ? "would be refreshed"
        : "refreshed, but the replaced access token may still be alive at the provider"
      : `${plain(message)}${reason === "" ? "" : ` [${plain(reason)}]`}`;
    if (isNews) output.text(`${accountId}${tokenName === "default" ? "" : ` (${plain(tokenName)})`}: ${why}`);
  }
  progress.show("refresh", Number(done), Number(total));
}

function summary({ done, failed, total }: BulkRefreshAccountsResponse, dryRun: boolean): string {
  return dryRun
    ? `${total} accounts are selected.`
    : `${done} of ${total} accounts dealt with, ${failed} of them failed.`;
}
