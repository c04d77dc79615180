import { invalid } from "../../errors.ts";
import { AccountSchema, AccountService } from "../../gen/keyturn/v1/account_service_pb.js";
import type { Command, Invocation, Option } from "../command.ts";
import { CREDENTIAL_OPTIONS, readCredential, readTokens } from "../credential-input.ts";
import { EXIT } from "../exit.ts";
import { type Account, showAccount } from "./account-text.ts";

const FACTS: Readonly<Record<string, Option>> = {
  label: { value: "KEY=VALUE", help: "label", many: true },
  field: { value: "KEY=VALUE", help: "account field that the provider's file asks for", many: true },
  "display-name": { value: "TEXT", help: "for people" },
};

const SECRETS =
  "Secrets come from files or stdin (-), never from the command line, where every process can read them.";

const create: Command = {
  name: "accounts create",
  summary: "Store a new account, with its credential when one is given",
  listener: "admin",
  arguments: [{ name: "ACCOUNT", optional: true }],
  options: {
    provider: { value: "PROVIDER", help: "whose account it is; needed" },
    client: { value: "NAME", help: "the OAuth client it was connected with" },
    tenant: { value: "TENANT", help: "your customer" },
    "external-subject": { value: "ID", help: "who it is at the provider" },
    ...FACTS,
    ...CREDENTIAL_OPTIONS,
    "token-file": {
      value: "NAME=PATH",
      help: "the credential, as JSON, of one of an account's several tokens",
      many: true,
    },
  },
  about: `${SECRETS}\nWithout an ACCOUNT an id is made; without a credential the account is PENDING. Creating the same account with\nthe same content again changes nothing.`,
  examples: [
    {
      line: "keyturn accounts create acme-crm --provider simulator --client default --tenant acme --field port=8090 --refresh-token-file -",
      says: "an OAuth account; paste the refresh token, then Ctrl-D",
    },
    {
      line: "keyturn accounts create acme-hr --provider my-hr --field subdomain=acme --api-key-file key.txt",
      says: "an API key",
    },
    {
      line: "vault read -format=json secret/acme | jq '{oauth: .data}' | keyturn accounts create acme-crm --provider simulator --client default --field port=8090 --credential-file -",
      says: "a whole credential from another store",
    },
    {
      line: "keyturn accounts create acme-drive --provider my-drive --secret-file client_email=mail.txt --secret-file private_key=key.pem",
      says: "a key that tokens are minted from",
    },
  ],
  run: async (invocation) => {
    const { args, options, connect } = invocation;
    const request = {
      accountId: args[0] ?? "",
      tenant: options.text("tenant"),
      provider: options.required("provider"),
      client: options.text("client"),
      labels: options.pairs("label"),
      displayName: options.text("display-name"),
      externalSubject: options.text("external-subject"),
      fields: options.pairs("field"),
    };
    const credential = await readCredential(invocation);
    const tokens = await readTokens(invocation);
    const { account } = await (await connect()).unary(AccountService.method.createAccount, {
      ...request,
      tokens,
      ...(credential === undefined ? {} : { credential }),
    });
    return shown(account, invocation);
  },
};

const putCredential: Command = {
  name: "accounts put-credential",
  summary: "Give an account a new credential: the repair of NEEDS_REAUTH",
  listener: "admin",
  arguments: [{ name: "ACCOUNT" }],
  options: {
    "token-name": { value: "NAME", help: "which of the account's tokens (default: default)" },
    ...CREDENTIAL_OPTIONS,
  },
  about: SECRETS,
  examples: [
    {
      line: "keyturn accounts put-credential acme-crm --refresh-token-file token.txt",
      says: "after the customer authorized again",
    },
    {
      line: "pass show acme/hr | keyturn accounts put-credential acme-hr --api-key-file -",
      says: "a new API key",
    },
  ],
  run: async (invocation) => {
    const { args, options, connect } = invocation;
    const credential = await readCredential(invocation);
    if (credential === undefined) {
      throw invalid("credential", "is needed: --refresh-token-file, --api-key-file or another of --help");
    }
    const { account } = await (await connect()).unary(AccountService.method.putCredential, {
      accountId: args[0] ?? "",
      tokenName: options.text("token-name"),
      credential,
    });
    return shown(account, invocation);
  },
};

const update: Command = {
  name: "accounts update",
  summary: "Change an account's labels, fields or name",
  listener: "admin",
  arguments: [{ name: "ACCOUNT" }],
  options: {
    ...FACTS,
    "remove-label": { value: "KEY", help: "label to take away", many: true },
    "remove-field": { value: "KEY", help: "account field to take away", many: true },
  },
  about: "What is not named stays. Somebody else's change in between is noticed: then nothing is changed.",
  examples: [
    { line: "keyturn accounts update acme-crm --label tier=1 --remove-label trial", says: "labels" },
    { line: 'keyturn accounts update acme-crm --display-name "Acme Inc."', says: "its name" },
  ],
  run: async (invocation) => {
    const { args, options, connect } = invocation;
    const changed = (set: string, remove: string) => options.has(set) || options.has(remove);
    const paths = [
      ...(changed("label", "remove-label") ? ["labels"] : []),
      ...(changed("field", "remove-field") ? ["fields"] : []),
      ...(options.has("display-name") ? ["display_name"] : []),
    ];
    if (paths.length === 0)
      throw invalid("options", "say what to change: --label, --field or --display-name");
    const set = { labels: options.pairs("label"), fields: options.pairs("field") };
    const accountId = args[0] ?? "";
    const connection = await connect();
    const { account: before } = await connection.unary(AccountService.method.getAccount, { accountId });
    const { account } = await connection.unary(AccountService.method.updateAccount, {
      accountId,
      labels: without({ ...before?.labels, ...set.labels }, options.texts("remove-label")),
      fields: without({ ...before?.fields, ...set.fields }, options.texts("remove-field")),
      displayName: options.text("display-name"),
      updateMask: { paths },
      revision: before?.revision ?? "",
    });
    return shown(account, invocation);
  },
};

function without(pairs: Readonly<Record<string, string>>, keys: readonly string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(pairs).filter(([key]) => !keys.includes(key)));
}

function shown(account: Account | undefined, invocation: Invocation): number {
  if (account === undefined) return EXIT.failed;
  if (invocation.output.json) invocation.output.message(AccountSchema, account);
  else showAccount(account, invocation);
  return EXIT.done;
}

/** Commands that store what they are given. */
export const accountWriteCommands: readonly Command[] = [create, putCredential, update];
