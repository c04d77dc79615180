import { type MessageShape, toJson } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { invalid } from "../../errors.ts";
import { CredentialService, GetTokenResponseSchema } from "../../gen/keyturn/v1/credential_service_pb.js";
import type { Command, Invocation } from "../command.ts";
import { EXIT } from "../exit.ts";
import { both } from "../when.ts";

type Token = MessageShape<typeof GetTokenResponseSchema>;

export const token: Command = {
  name: "token",
  summary: "Get a valid token for an account, refreshed first when needed",
  listener: "data",
  arguments: [{ name: "ACCOUNT" }],
  options: {
    "show-token": { help: "print the token and nothing else; with --json the whole answer" },
    "token-name": { value: "NAME", help: "which of the account's tokens (default: default)" },
    "min-validity": { value: "DURATION", help: "validity it must have left" },
    "rejected-revision": { value: "REVISION", help: "the provider answered 401 to this one" },
  },
  about:
    "Without --show-token everything about the token is shown, but not the token: terminals have long memories.",
  examples: [
    { line: "keyturn token acme-crm", says: "is there a valid token, and until when" },
    {
      line: 'curl -H "Authorization: Bearer $(keyturn token acme-crm --show-token)" https://api.example.com/me',
      says: "use it",
    },
    {
      line: "keyturn token acme-crm --show-token --json | jq .headers",
      says: "headers ready to send",
    },
  ],
  run: async (invocation) => {
    const { args, options, output, connect } = invocation;
    const validityMs = options.duration("min-validity");
    const request = {
      accountId: args[0] ?? "",
      tokenName: options.text("token-name"),
      rejectedRevision: options.text("rejected-revision"),
      ...(validityMs === undefined ? {} : { minValidity: durationFromMs(validityMs) }),
    };
    const answer = await (await connect()).unary(CredentialService.method.getToken, request);
    if (!options.has("show-token")) describe(answer, invocation);
    else if (output.json) output.message(GetTokenResponseSchema, answer);
    else output.text(shown(answer));
    return EXIT.done;
  },
};

/** A user name with a password has no token, but a header that does the same. */
function shown({ accessToken, headers, queryParameters }: Token): string {
  if (accessToken !== "") return accessToken;
  const lines = [
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    ...Object.entries(queryParameters).map(([name, value]) => `${name}=${value}`),
  ];
  if (lines.length === 0)
    throw invalid("--show-token", "this account's credential has nothing to show; try --json");
  return lines.join("\n");
}

function describe(answer: Token, { args, output, clock }: Invocation): void {
  const names = [...Object.keys(answer.headers), ...Object.keys(answer.queryParameters)];
  if (output.json) {
    const json = toJson(GetTokenResponseSchema, answer, { alwaysEmitImplicit: true });
    const hidden = ["accessToken", "headers", "queryParameters"];
    const open = typeof json === "object" && json !== null && !Array.isArray(json) ? json : {};
    output.object(Object.fromEntries(Object.entries(open).filter(([name]) => !hidden.includes(name))));
    return;
  }
  output.facts([
    ["account", args[0]],
    ["type", answer.tokenType],
    ["expires", both(answer.expireTime, clock.now()) ?? "never"],
    ["sent as", names.join(", ")],
    ["base url", answer.baseUrl],
    ["scopes", answer.scopes.join(" ")],
    ...Object.entries(answer.fields).map(([name, value]) => [`field ${name}`, value] as const),
    ["revision", answer.revision],
    ["token", "valid, not shown; --show-token prints it"],
  ]);
}
