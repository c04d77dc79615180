import { invalid } from "../../errors.ts";
import { AccountSchema, AccountService, AccountStatus } from "../../gen/keyturn/v1/account_service_pb.js";
import type { Command, Invocation, Option } from "../command.ts";
import { EXIT } from "../exit.ts";
import { pagesOf } from "../pages.ts";
import { type Account, accountColumns, showAccount, statusName } from "./account-text.ts";

const STATUSES = Object.values(AccountStatus)
  .filter((value): value is AccountStatus => typeof value === "number" && value !== AccountStatus.UNSPECIFIED)
  .map((status) => ({ status, name: statusName(status) }));

const BY_OWNER: Readonly<Record<string, Option>> = {
  tenant: { value: "TENANT", help: "only this tenant's" },
  provider: { value: "PROVIDER", help: "only this provider's" },
};

const list: Command = {
  name: "accounts list",
  summary: "List accounts, masked",
  listener: "admin",
  arguments: [],
  options: {
    ...BY_OWNER,
    client: { value: "NAME", help: "only this OAuth client's" },
    status: { value: "STATUS", help: STATUSES.map(({ name }) => name).join(", ") },
    label: { value: "KEY=VALUE", help: "only with this label", many: true },
    limit: { value: "N", help: "at most so many (default 1000; 0: all of them)" },
  },
  examples: [
    { line: "keyturn accounts list", says: "all of them" },
    {
      line: "keyturn accounts list --status NEEDS_REAUTH --json | jq -r .id",
      says: "whose customers have to act",
    },
    { line: "keyturn accounts list --provider simulator --label team=crm", says: "some of them" },
  ],
  run: async (invocation) => {
    const { options, output, connect } = invocation;
    const filter = {
      tenant: options.text("tenant"),
      provider: options.text("provider"),
      client: options.text("client"),
      status: statusOf(options.text("status")),
      labels: options.pairs("label"),
    };
    const limit = options.whole("limit", 1_000) || Number.POSITIVE_INFINITY;
    const connection = await connect();
    const pages = pagesOf(limit, async (pageSize, pageToken) => {
      const page = { ...filter, pageSize, pageToken };
      const { accounts, nextPageToken } = await connection.unary(AccountService.method.listAccounts, page);
      return { rows: accounts, nextPageToken };
    });
    const found: Account[] = [];
    for await (const account of pages.rows) {
      if (output.json) output.message(AccountSchema, account);
      else found.push(account);
    }
    if (!output.json) showAll(found, invocation);
    if (pages.hasMore())
      output.note(`There are more: --limit 0 lists all, keyturn accounts export streams them.`);
    return EXIT.done;
  },
};

function showAll(accounts: readonly Account[], invocation: Invocation): void {
  const { output, options } = invocation;
  const isFiltered = ["tenant", "provider", "client", "status", "label"].some((name) => options.has(name));
  if (accounts.length === 0)
    output.note(
      isFiltered ? "No accounts match." : "No accounts. Create one with: keyturn accounts create --help",
    );
  else output.table(accounts, accountColumns(invocation));
}

function statusOf(text: string): AccountStatus {
  if (text === "") return AccountStatus.UNSPECIFIED;
  const found = STATUSES.find(({ name }) => name === text.toUpperCase());
  if (found === undefined) throw invalid("--status", `one of ${STATUSES.map(({ name }) => name).join(", ")}`);
  return found.status;
}

const get: Command = {
  name: "accounts get",
  summary: "Show one account, masked",
  listener: "admin",
  arguments: [{ name: "ACCOUNT" }],
  options: {},
  examples: [
    { line: "keyturn accounts get acme-crm", says: "its status, dates and what is planned" },
    {
      line: "keyturn accounts get acme-crm --json | jq '.slots[].expireTime'",
      says: "one fact of it",
    },
  ],
  run: async (invocation) => {
    const { args, connect, output } = invocation;
    const request = { accountId: args[0] ?? "" };
    const { account } = await (await connect()).unary(AccountService.method.getAccount, request);
    if (account === undefined) return EXIT.notFound;
    if (output.json) output.message(AccountSchema, account);
    else showAccount(account, invocation);
    return EXIT.done;
  },
};

const exportAll: Command = {
  name: "accounts export",
  summary: "Stream the whole inventory, masked, one JSON object a line",
  listener: "admin",
  arguments: [],
  options: BY_OWNER,
  examples: [
    { line: "keyturn accounts export > accounts.jsonl", says: "everything but the secrets" },
    { line: "keyturn accounts export --provider simulator | wc -l", says: "how many" },
  ],
  run: async ({ options, connect, output }) => {
    const request = { tenant: options.text("tenant"), provider: options.text("provider") };
    for await (const { account } of (await connect()).stream(AccountService.method.exportAccounts, request)) {
      if (account !== undefined) output.message(AccountSchema, account);
    }
    return EXIT.done;
  },
};

/** Commands that change no account. */
export const accountReadCommands: readonly Command[] = [list, get, exportAll];
