import { AccountService, ExplainAccountResponseSchema } from "../../gen/keyturn/v1/account_service_pb.js";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { showExplanation } from "./explain-text.ts";

export const explain: Command = {
  name: "accounts explain",
  summary: "Say why an account is as it is, what happened last and what to do next",
  listener: "admin",
  arguments: [{ name: "ACCOUNT" }],
  options: {
    "token-name": { value: "NAME", help: "which of its tokens (default: the one that needs something)" },
  },
  about:
    "The command for 2 AM: status and why, the last attempts, what is due, who holds the lock, whether an answer is\nmissing or kept on disk, what stands in the way through the OAuth client, and the commands that help.",
  examples: [
    {
      line: "keyturn accounts explain acme-crm",
      says: "read the first three lines; the rest is evidence",
    },
    { line: "keyturn accounts explain acme-crm --json | jq '.attempts[0]'", says: "the last attempt" },
  ],
  run: async (invocation) => {
    const { args, options, connect, output } = invocation;
    const request = { accountId: args[0] ?? "", tokenName: options.text("token-name") };
    const answer = await (await connect()).unary(AccountService.method.explainAccount, request);
    if (output.json) output.message(ExplainAccountResponseSchema, answer);
    else showExplanation(answer, invocation);
    return EXIT.done;
  },
};
