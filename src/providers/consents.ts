import { invalid } from "../errors.ts";
import type { Consents, Grant } from "../tokens/consent.ts";
import type { Credential } from "../tokens/credential.ts";
import type { CodeGrant, RawAnswer, VendorContext } from "../tokens/vendor.ts";
import { consentReply } from "./consent-reply.ts";
import { consentUrl } from "./consent-url.ts";
import { sendStep } from "./exchange.ts";
import { subjectOf } from "./identity.ts";
import { interpretExchange } from "./interpret.ts";
import { introduce } from "./introduction.ts";
import { type Catalogue, providerIn } from "./load.ts";
import type { Provider } from "./provider.ts";
import { secretCredential } from "./secret-credential.ts";
import type { Outside } from "./send.ts";

export interface ConsentsDeps extends Outside {
  /** The catalogue as it is now: a reload is seen by the next call. */
  readonly catalogue: () => Catalogue;
}

/** How customers connect their accounts, as the files describe it. */
export function createConsents({ catalogue, ...outside }: ConsentsDeps): Consents {
  const find = (name: string) => providerIn(catalogue(), name);
  return {
    url: (request) => consentUrl(find(request.provider), request),
    reply: (provider, query, asked) => consentReply(find(provider), query, asked),
    steps: (provider) => {
      const tokens = catalogue().get(provider)?.tokens.values() ?? [];
      return Math.max(1, ...[...tokens].map(({ grant }) => grant?.length ?? 0));
    },
    async redeem(context, code, go, ear, before) {
      const provider = find(context.account.provider);
      const [slot] = grantedSlots(provider);
      if (slot === undefined) throw invalid("provider", `${provider.name}'s tokens are not got by a code`);
      return sendStep(outside, provider, { context: { ...context, slot }, code, answers: before }, go, ear);
    },
    async grant(context, code, scopes, answers) {
      const provider = catalogue().get(context.account.provider);
      if (provider === undefined) return { kind: "unmapped", cause: "file_missing" };
      return readGrant(outside, withScopes(provider, scopes), context, code, answers);
    },
    subject({ provider, fields }, answer) {
      const found = catalogue().get(provider);
      return found && subjectOf(found, answer, fields);
    },
    introduce: (context) => introduce(outside, find(context.account.provider), context),
    credential: (provider, secrets, nowMs, expiresAtMs) =>
      secretCredential(find(provider), secrets, nowMs, expiresAtMs),
  };
}

/** The tokens that a code gives, the account's first one first. */
function grantedSlots(provider: Provider): readonly string[] {
  return [...provider.tokens].flatMap(([slot, { grant }]) => (grant === undefined ? [] : [slot]));
}

/** An answer without a scope grants what was asked for (RFC 6749 §5.1), which need not be the file's. */
function withScopes(provider: Provider, scopes: readonly string[]): Provider {
  const tokens = [...provider.tokens].map(([slot, token]) => [slot, { ...token, scopes }] as const);
  return { ...provider, tokens: new Map(tokens) };
}

/** Every token of one code; a customer may have granted only some of those that the file knows. */
async function readGrant(
  outside: Outside,
  provider: Provider,
  context: VendorContext,
  code: CodeGrant,
  answers: readonly RawAnswer[],
): Promise<Grant> {
  const credentials = new Map<string, Credential>();
  let fields: Readonly<Record<string, string>> = {};
  let failure: Exclude<Grant, { kind: "granted" }> | undefined;
  for (const slot of grantedSlots(provider)) {
    const own: VendorContext = { ...context, slot, credential: { kind: "unminted" } };
    const read = await interpretExchange(outside, provider, { context: own, code, answers });
    if (read.kind === "granted" && read.unfinished === undefined) {
      credentials.set(slot, read.credential);
      fields = { ...fields, ...read.fields };
    } else failure ??= read.kind === "granted" ? (read.unfinished ?? { kind: "more" }) : read;
  }
  if (credentials.size === 0) return failure ?? { kind: "unmapped", cause: "not_in_file" };
  // Tokens with a life of their own are minted when somebody asks for them.
  for (const [slot, { grant, mint }] of provider.tokens)
    if (grant === undefined && mint !== undefined) credentials.set(slot, { kind: "unminted" });
  const known = { ...context.account.fields, ...fields };
  return { kind: "granted", credentials, fields, subject: subjectOf(provider, answers.at(-1), known) };
}
