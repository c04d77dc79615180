import {
  AccountSchema,
  AccountService,
  DeleteAccountResponseSchema,
  RemapAccountResponseSchema,
} from "../../gen/keyturn/v1/account_service_pb.js";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { showAccount, statusName } from "./account-text.ts";

const { method } = AccountService;
const ACCOUNT = [{ name: "ACCOUNT" }];
const TOKEN_NAME = {
  "token-name": { value: "NAME", help: "which of the account's tokens (default: default)" },
};

const refresh: Command = {
  name: "accounts refresh",
  summary: "Refresh now, whatever validity is left; verify what cannot be refreshed",
  listener: "admin",
  arguments: ACCOUNT,
  options: TOKEN_NAME,
  about: "A refresh whose outcome is unknown is never sent again by this.",
  examples: [{ line: "keyturn accounts refresh acme-crm", says: "and see the new dates" }],
  run: async (invocation) => {
    const { args, options, connect, output } = invocation;
    const request = { accountId: args[0] ?? "", tokenName: options.text("token-name") };
    const { account } = await (await connect()).unary(method.refreshAccount, request);
    if (account === undefined) return EXIT.failed;
    if (output.json) output.message(AccountSchema, account);
    else showAccount(account, invocation);
    return EXIT.done;
  },
};

const enable: Command = {
  name: "accounts enable",
  summary: "Undo `accounts disable`",
  listener: "admin",
  arguments: ACCOUNT,
  options: {},
  examples: [{ line: "keyturn accounts enable acme-crm", says: "hand out its tokens again" }],
  run: async ({ args, connect, output }) => {
    const [accountId = ""] = args;
    const { account } = await (await connect()).unary(method.enableAccount, { accountId });
    if (output.json && account !== undefined) output.message(AccountSchema, account);
    else
      output.text(
        `${accountId} is enabled${account === undefined ? "" : `; its status is ${statusName(account.status)}`}.`,
      );
    return EXIT.done;
  },
};

const disable: Command = {
  name: "accounts disable",
  summary: "Stop handing out and refreshing an account's tokens, on every sidecar",
  listener: "admin",
  arguments: ACCOUNT,
  options: {},
  examples: [
    {
      line: "keyturn accounts disable acme-crm",
      says: "nothing is deleted; `accounts enable` undoes it",
    },
  ],
  run: async ({ args, connect, output }) => {
    const [accountId = ""] = args;
    const { account } = await (await connect()).unary(method.disableAccount, { accountId });
    if (output.json && account !== undefined) output.message(AccountSchema, account);
    else output.text(`${accountId} is disabled: no sidecar hands out or refreshes its tokens.`);
    return EXIT.done;
  },
};

const remove: Command = {
  name: "accounts delete",
  summary: "Remove an account and its credential",
  listener: "admin",
  arguments: ACCOUNT,
  options: { revoke: { help: "tell the provider first (RFC 7009)" } },
  about:
    "It cannot be undone. With --revoke the exit code is 1 when a grant may still be alive at the provider.",
  examples: [
    { line: "keyturn accounts delete acme-crm --revoke", says: "here and at the provider" },
    { line: "keyturn accounts disable acme-crm", says: "what to do when in doubt" },
  ],
  run: async ({ args, options, connect, output }) => {
    const [accountId = ""] = args;
    const revoke = options.has("revoke");
    const answer = await (await connect()).unary(method.deleteAccount, { accountId, revoke });
    const isPartly = revoke && !answer.revoked;
    if (output.json) output.message(DeleteAccountResponseSchema, answer);
    else if (isPartly)
      output.text(`${accountId} is deleted, but its grant may still be alive at the provider.`);
    else output.text(`${accountId} is deleted${revoke ? " and revoked at the provider" : ""}.`);
    return isPartly ? EXIT.failed : EXIT.done;
  },
};

const remap: Command = {
  name: "accounts remap",
  summary: "Read a kept answer again, after the provider's file was mended",
  listener: "admin",
  arguments: ACCOUNT,
  options: TOKEN_NAME,
  about:
    "An answer that the file could not map is kept on the sidecar's disk. Nothing is sent to the provider.",
  examples: [
    {
      line: "keyturn accounts remap acme-crm",
      says: "exit code 1 when the file still does not map it",
    },
  ],
  run: async (invocation) => {
    const { args, options, connect, output } = invocation;
    const [accountId = ""] = args;
    const request = { accountId, tokenName: options.text("token-name") };
    const answer = await (await connect()).unary(method.remapAccount, request);
    if (output.json) output.message(RemapAccountResponseSchema, answer);
    else if (!answer.mapped)
      output.text(`${accountId}: the file still does not map the answer, which stays kept.`);
    else if (answer.account !== undefined) showAccount(answer.account, invocation);
    return answer.mapped ? EXIT.done : EXIT.failed;
  },
};

/** Commands that do something to one account. */
export const accountActCommands: readonly Command[] = [refresh, enable, disable, remove, remap];
