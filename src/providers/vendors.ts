import { KeyturnError } from "../errors.ts";
import type { RawAnswer, RefreshRules, SendResult, VendorContext, Vendors } from "../tokens/vendor.ts";
import { authorizationFor } from "./authorization.ts";
import { interpretAnswer } from "./interpret.ts";
import type { Catalogue } from "./load.ts";
import type { Provider } from "./provider.ts";
import { revokeGrant } from "./revocation.ts";
import type { Send } from "./send.ts";
import { tokenRequest } from "./token-request.ts";
import { verifyCredential } from "./verification.ts";

export interface VendorsDeps {
  /** The catalogue as it is now: a reload is seen by the next call. */
  readonly catalogue: () => Catalogue;
  readonly send: Send;
}

/** Third parties as the files describe them. */
export function createVendors({ catalogue, send }: VendorsDeps): Vendors {
  const find = (name: string): Provider => {
    const provider = catalogue().get(name);
    if (provider !== undefined) return provider;
    throw new KeyturnError("PROVIDER_NOT_FOUND", "The provider's file is missing.", {
      metadata: { provider: name },
    });
  };
  return {
    rules(name) {
      const provider = catalogue().get(name);
      return provider === undefined ? undefined : rulesOf(provider);
    },

    async exchange(context, go, ear) {
      const request = tokenRequest(find(context.account.provider), context);
      return toSendResult(await send({ ...request, beforeFirstByte: go, signal: ear }));
    },

    async interpret(context, answer) {
      const provider = catalogue().get(context.account.provider);
      if (provider === undefined) return { kind: "unmapped", cause: "file_missing" };
      return interpretAnswer(send, provider, context, answer);
    },

    async verify(context) {
      const provider = catalogue().get(context.account.provider);
      return provider === undefined
        ? { kind: "unclear", cause: "file_missing" }
        : verifyCredential(send, provider, context);
    },

    async revoke(context) {
      const provider = catalogue().get(context.account.provider);
      return provider === undefined ? "unsupported" : revokeGrant(send, provider, context);
    },

    authorize(context: Omit<VendorContext, "client">) {
      return authorizationFor(find(context.account.provider), context);
    },
  };
}

function rulesOf(provider: Provider): RefreshRules {
  const { resendSafe, earliestBeforeExpiryMs, maxConcurrent, budget } = provider.refresh;
  return {
    resendSafe,
    refreshesWithoutToken: provider.token?.grant === "client_credentials",
    earliestBeforeExpiryMs,
    maxConcurrent,
    budget,
    canVerify: provider.verification !== undefined,
  };
}

function toSendResult(sent: Awaited<ReturnType<Send>>): SendResult {
  if (sent.kind !== "answer") return { kind: sent.kind, cause: sent.cause };
  const { status, headers, body, requestedAtMs, receivedAtMs } = sent;
  const answer: RawAnswer = { status, headers, body, requestedAtMs, receivedAtMs };
  return { kind: "answer", answer };
}
