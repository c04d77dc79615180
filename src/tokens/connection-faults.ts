import { invalid, KeyturnError } from "../errors.ts";
import type { Account } from "./account.ts";
import type { ConsentReply, Grant, Introduction } from "./consent.ts";

/** Why the customer did not consent, or the provider did not ask. */
export function replyFault(
  account: Account,
  reply: Extract<ConsentReply, { kind: "refused" }>,
): KeyturnError {
  const metadata = { ...about(account), provider_code: reply.code, provider_message: reply.message };
  switch (reply.class) {
    case "denied":
      return new KeyturnError("AUTHORIZATION_DENIED", "The customer or the provider did not authorize.", {
        metadata: { ...metadata, cause: "redirect" },
      });
    case "fix_configuration":
      return new KeyturnError(
        "CLIENT_MISCONFIGURED",
        "The provider refuses what this OAuth client asks for; mend its registration, scopes or file.",
        { metadata: { ...metadata, cause: "redirect" } },
      );
    default:
      return unavailable(metadata, "redirect");
  }
}

/** Why the code's exchange gave nothing to store. */
export function grantFault(account: Account, grant: Exclude<Grant, { kind: "granted" }>): KeyturnError {
  const metadata = about(account);
  if (grant.kind === "more") return unavailable(metadata, "unfinished");
  if (grant.kind === "unmapped")
    return new KeyturnError(
      "PROVIDER_UNAVAILABLE",
      "The provider's answer was kept but its file does not map it; mend the file, then remap the account.",
      { metadata: { ...metadata, cause: "answer_not_mapped" } },
    );
  if (grant.kind === "not_sent")
    return new KeyturnError("PROVIDER_UNAVAILABLE", "The provider could not be asked; nothing was sent.", {
      metadata: { ...metadata, cause: grant.cause },
      retryAfterMs: 5_000,
    });
  if (grant.kind !== "refused") return unavailable(metadata, grant.cause);
  const said = {
    ...metadata,
    provider_message: grant.message,
    ...(grant.code === undefined ? {} : { provider_code: grant.code }),
  };
  switch (grant.class) {
    case "reauth":
      return new KeyturnError("AUTHORIZATION_DENIED", "The provider did not accept the code; start again.", {
        metadata: { ...said, cause: "code_refused" },
      });
    case "fix_configuration":
      return new KeyturnError(
        "CLIENT_MISCONFIGURED",
        "The provider refuses this OAuth client's request; mend its secret, registration or file.",
        { metadata: { ...said, cause: "code_exchange" } },
      );
    case "rate_limited":
      return new KeyturnError(
        "PROVIDER_RATE_LIMITED",
        "The provider's token endpoint throttles this OAuth client; start again later.",
        { metadata: said, retryAfterMs: grant.retryAfterMs, rateLimit: grant.rateLimit },
      );
    case "transient":
      return unavailable(said, "transient");
  }
}

/** The provider has taken the code and failed since; what it still has to answer is asked again meanwhile. */
export function unfinishedFault({ reason, metadata, retryAfterMs, rateLimit }: KeyturnError): KeyturnError {
  return new KeyturnError(
    reason,
    "The provider took the code and has failed since; it is asked again, and the account is connected once it answers.",
    { metadata: { ...metadata, authorization: "continues" }, retryAfterMs, rateLimit },
  );
}

/** What a first token is minted by. */
export type Presented = "secret" | "consent";

/** Why a customer's secret, or consent, mints no token. */
export function mintFault(
  account: Account,
  grant: Exclude<Grant, { kind: "granted" }>,
  presented: Presented,
): KeyturnError {
  const isRefused = grant.kind === "refused" && grant.class === "reauth";
  if (!isRefused) return grantFault(account, grant);
  const code = grant.code === undefined ? {} : { provider_code: grant.code };
  return new KeyturnError(
    "AUTHORIZATION_DENIED",
    `The provider does not accept this ${presented}; nothing was stored.`,
    { metadata: { ...about(account), ...code, cause: `${presented}_refused` } },
  );
}

/** Why a connection that the provider granted cannot be stored. */
export function introductionFault(
  account: Account,
  said: Exclude<Introduction, { kind: "introduced" }>,
): KeyturnError {
  if (said.kind === "failed") return unavailable(about(account), `after_connect_${said.cause}`);
  const choices = said.choices.map(({ value, title }) => (title === "" ? value : `${value} (${title})`));
  const what = said.isForeign ? "not one of the customer's own" : "several match";
  return invalid(`fields.${said.field}`, `${what}; start again with one of them: ${choices.join(", ")}`);
}

/** What an error about connecting an account says of it; its OAuth client is what an operator has to look at. */
export function about({ id, provider, client }: Account): Readonly<Record<string, string>> {
  return { account_id: id, provider, ...(client === "" ? {} : { client }) };
}

function unavailable(metadata: Readonly<Record<string, string>>, cause: string): KeyturnError {
  return new KeyturnError("PROVIDER_UNAVAILABLE", "The provider failed; start the authorization again.", {
    metadata: { ...metadata, cause },
    retryAfterMs: 5_000,
  });
}
