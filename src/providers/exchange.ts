import type { RawAnswer, SendResult } from "../tokens/vendor.ts";
import { credentialSoFar, type Exchange } from "./interpret.ts";
import type { Provider } from "./provider.ts";
import type { Outside, Sent } from "./send.ts";
import { stepRequest, stepsToSend } from "./token-request.ts";

/**
 * Sends the request that the answers so far ask for: the first one when there is none. `go` is asked right before the
 * first byte. INVALID_REQUEST or DESTINATION_NOT_ALLOWED when it cannot be made; nothing is sent then.
 */
export async function sendStep(
  outside: Outside,
  provider: Provider,
  exchange: Exchange,
  go: () => boolean,
  ear: AbortSignal,
): Promise<SendResult> {
  const { context, code, answers } = exchange;
  const { token, steps } = stepsToSend(provider, context, code);
  const step = steps[answers.length];
  if (step === undefined) return { kind: "not_sent", cause: "nothing_to_ask" };
  const credential = answers.length === 0 ? context.credential : credentialSoFar(provider, exchange);
  const nowMs = outside.now();
  const made = stepRequest(provider, { ...context, credential }, { token, step, code }, nowMs);
  if (made.kind === "send")
    return toSendResult(await outside.send({ ...made.request, beforeFirstByte: go, signal: ear }));
  if (!go()) return { kind: "not_sent", cause: "withdrawn" };
  const answer = { status: 200, headers: [], body: made.body, requestedAtMs: nowMs, receivedAtMs: nowMs };
  return { kind: "answer", answer };
}

function toSendResult(sent: Sent): SendResult {
  if (sent.kind !== "answer") return { kind: sent.kind, cause: sent.cause };
  const { status, headers, body, requestedAtMs, receivedAtMs } = sent;
  const answer: RawAnswer = { status, headers, body, requestedAtMs, receivedAtMs };
  return { kind: "answer", answer };
}
