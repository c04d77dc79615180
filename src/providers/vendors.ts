import type { RefreshRules, Vendors } from "../tokens/vendor.ts";
import { authorizationFor } from "./authorization.ts";
import { sendStep } from "./exchange.ts";
import { interpretExchange } from "./interpret.ts";
import { type Catalogue, providerIn } from "./load.ts";
import type { Provider, TokenPlan } from "./provider.ts";
import { revokeAccessToken, revokeGrant } from "./revocation.ts";
import type { ProviderFile } from "./schema.ts";
import type { Send } from "./send.ts";
import { verifyCredential } from "./verification.ts";

export interface VendorsDeps {
  /** The catalogue as it is now: a reload is seen by the next call. */
  readonly catalogue: () => Catalogue;
  readonly send: Send;
  /** Wall clock, epoch milliseconds. */
  readonly now: () => number;
}

/** Third parties as the files describe them. */
export function createVendors({ catalogue, send, now }: VendorsDeps): Vendors {
  const outside = { send, now };
  const find = (name: string) => providerIn(catalogue(), name);
  // Asked for with every token, and the same for as long as a file is.
  const rules = new WeakMap<Provider, Map<string | undefined, RefreshRules>>();
  return {
    rules(name, slot) {
      const provider = catalogue().get(name);
      if (provider === undefined) return undefined;
      const ofSlots = rules.get(provider) ?? new Map<string | undefined, RefreshRules>();
      rules.set(provider, ofSlots);
      const known = ofSlots.get(slot) ?? rulesOf(provider, slot);
      // A caller may ask for any name of a token; only those that there are are remembered.
      if (slot === undefined || provider.tokenNames.includes(slot)) ofSlots.set(slot, known);
      return known;
    },

    async exchange(context, go, ear, before = []) {
      const provider = find(context.account.provider);
      return sendStep(outside, provider, { context, answers: before }, go, ear);
    },

    async interpret(context, answer, before = [], ended) {
      const provider = catalogue().get(context.account.provider);
      if (provider === undefined) return { kind: "unmapped", cause: "file_missing" };
      return interpretExchange(outside, provider, { context, answers: [...before, answer], ended });
    },

    async verify(context) {
      const provider = catalogue().get(context.account.provider);
      return provider === undefined
        ? { kind: "unclear", cause: "file_missing" }
        : verifyCredential(outside, provider, context);
    },

    async revoke(context) {
      const provider = catalogue().get(context.account.provider);
      return provider === undefined ? "unsupported" : revokeGrant(outside, provider, context);
    },

    async revokeAccessToken(context) {
      const provider = catalogue().get(context.account.provider);
      return provider === undefined ? "unsupported" : revokeAccessToken(outside, provider, context);
    },

    authorize(context) {
      return authorizationFor(find(context.account.provider), context);
    },
  };
}

function rulesOf(provider: Provider, slot: string | undefined): RefreshRules {
  const { resendSafe, earliestBeforeExpiryMs, leadMs, maxConcurrent, budget } = provider.refresh;
  const token = slot === undefined ? provider.token : provider.tokens.get(slot);
  const ways = token === undefined ? [] : [token.refresh, token.mint].filter((steps) => steps !== undefined);
  return {
    resendSafe,
    refreshesWithoutToken:
      token !== undefined && (token.mint !== undefined || token.refreshCredential !== "refresh_token"),
    refreshesWithAccessToken: token?.refreshCredential === "access_token",
    earliestBeforeExpiryMs,
    leadMs,
    maxConcurrent,
    budget,
    canVerify: provider.verification !== undefined,
    tokenNames: provider.tokenNames,
    mintsFrom: token?.mint === undefined ? undefined : token.customerFields,
    signsWith: token && signingField(token),
    steps: Math.max(1, ...ways.map((steps) => steps.length)),
    showsCertificate: token?.showsCertificate === true,
    isBound: token?.bound === true,
    needsClient: token === undefined || needsClient(token) || provider.clientFields.length > 0,
    clientFields: provider.clientFields,
    fields: [...provider.fields].map(([name, rule]) => ({
      name,
      needed: isNeeded(provider.file.account_fields?.[name]),
      expected: rule.expected,
      accepts: (value) => rule.accepts(value),
    })),
  };
}

function isNeeded(field: NonNullable<ProviderFile["account_fields"]>[string] | undefined): boolean {
  return field !== undefined && field.default === undefined && field.required !== false;
}

/** The customer's field that holds a private key, not a secret shared with the provider. */
function signingField({ mint = [] }: TokenPlan): string | undefined {
  const assertion = mint[0]?.assertion;
  const isShared = assertion?.algorithm?.startsWith("HS") === true;
  return assertion?.key.of === "customer" && !isShared ? assertion.key.field : undefined;
}

function needsClient(token: TokenPlan): boolean {
  const steps = [...(token.refresh ?? []), ...(token.mint ?? [])];
  return (
    token.grant !== undefined ||
    token.showsCertificate ||
    steps.some(({ clientAuth, assertion }) => clientAuth !== "none" || assertion?.key.of === "client")
  );
}
