import { KeyturnError } from "../errors.ts";
import type { VendorContext, Verification } from "../tokens/vendor.ts";
import { accountRequest } from "./account-request.ts";
import { isSuccessStatus, judge, type ReadAnswer, readAnswer } from "./answer.ts";
import type { Provider } from "./provider.ts";
import type { Outside } from "./send.ts";

/** Asks the provider whether the credential still works, by the file's verification request. Never throws. */
export async function verifyCredential(
  outside: Outside,
  provider: Provider,
  context: VendorContext,
): Promise<Verification> {
  const plan = provider.verification;
  if (plan === undefined) return { kind: "unclear", cause: "no_verification" };
  try {
    const sent = await outside.send(accountRequest(provider, plan, context, outside.now()));
    if (sent.kind !== "answer") return { kind: "unclear", cause: sent.cause };
    return verdict(plan, readAnswer(sent));
  } catch (error) {
    return { kind: "unclear", cause: error instanceof KeyturnError ? error.reason : "internal_error" };
  }
}

type Plan = NonNullable<Provider["verification"]>;

/** Throttling and the provider's own trouble tell nothing about a credential, whatever the file's predicates say. */
function verdict(plan: Plan, answer: ReadAnswer): Verification {
  const { status } = answer;
  const unclear: Verification = { kind: "unclear", cause: `status_${status}` };
  if (status === 429 || status === 408 || status >= 500) return unclear;
  const isRefused =
    plan.refused === undefined ? status === 401 || status === 403 : judge(plan.refused, answer) === true;
  if (isRefused) return { kind: "refused", status };
  const isAccepted =
    plan.accepted === undefined ? isSuccessStatus(status) : judge(plan.accepted, answer) === true;
  return isAccepted ? { kind: "accepted", status } : unclear;
}
