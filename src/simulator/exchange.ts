import type { ServerResponse } from "node:http";
import type { Clock } from "../clock.ts";
import type { Answer } from "./answer.ts";
import type { Prepared } from "./endpoint.ts";
import { faultAnswer, redeems } from "./fault-answers.ts";
import {
  type AnswerFault,
  type DeliveryFault,
  type FaultAction,
  type FaultSet,
  isAnswer,
  isArrival,
  isDelivery,
  isKind,
  isSkew,
} from "./faults.ts";
import type { TokenRecord } from "./history.ts";
import { resetConnection, send, sendPart, sendSlowly } from "./send.ts";

/** What every exchange shares. */
export interface ExchangeDeps {
  readonly clock: Clock;
  readonly faults: FaultSet;
  /** Between arrival and the vendor's logic. */
  readonly latencyMs: number;
  /** Ends every wait when the simulator closes. */
  readonly closing: AbortSignal;
}

/** Takes one prepared request through arrival, the vendor's logic and delivery, each with its faults. */
export async function exchange(
  deps: ExchangeDeps,
  prepared: Prepared,
  response: ServerResponse,
): Promise<void> {
  const { record } = prepared;
  try {
    await answered(deps, prepared, response);
  } finally {
    // No status line left: reset, given up on, or closed under it.
    if (!response.headersSent) record?.deliver("dropped");
    record?.end(deps.clock.now());
  }
}

async function answered(deps: ExchangeDeps, prepared: Prepared, response: ServerResponse): Promise<void> {
  const { clock, faults, latencyMs, closing } = deps;
  const { who, record } = prepared;
  const take = <F extends FaultAction>(stage: (fault: FaultAction) => fault is F): F | undefined => {
    const fault = faults.take(stage, who);
    if (fault) record?.fault(fault.kind);
    return fault;
  };
  const arrival = take(isArrival);
  if (arrival?.kind === "reset_before") return resetConnection(response);
  if (arrival?.kind === "hang") {
    if (arrival.ms === undefined) return forever(response, closing);
    await clock.sleep(arrival.ms, closing);
  }
  if (latencyMs > 0) await clock.sleep(latencyMs, closing);

  const instead = take(isAnswer);
  const nowMs = clock.now();
  const answer = instead
    ? replaced(prepared, instead, nowMs)
    : prepared.run(nowMs, (kind) => take(isKind(kind)));
  const delivery = take(isDelivery);
  const skewMs = take(isSkew)?.ms ?? 0;
  if (delivery?.kind === "reset_after") return resetConnection(response);
  if (delivery?.kind === "late") await clock.sleep(delivery.ms, closing);
  await deliver(deps, response, { answer, delivery, skewMs, record });
}

function replaced(prepared: Prepared, instead: AnswerFault, nowMs: number): Answer {
  if (redeems(instead)) prepared.run(nowMs, () => undefined);
  return faultAnswer(instead, nowMs);
}

interface Parcel {
  readonly answer: Answer;
  readonly delivery: DeliveryFault | undefined;
  readonly skewMs: number;
  readonly record: TokenRecord | undefined;
}

async function deliver(
  { clock, closing }: ExchangeDeps,
  response: ServerResponse,
  parcel: Parcel,
): Promise<void> {
  const { answer, delivery, skewMs, record } = parcel;
  if (response.destroyed) return;
  record?.status(answer.status);
  response.once("close", () => {
    if (!response.writableFinished) record?.deliver("dropped");
  });
  const dateMs = clock.now() + skewMs;
  if (delivery?.kind === "truncate") {
    record?.deliver("truncated");
    return sendPart(response, answer, dateMs, delivery.bytes);
  }
  if (delivery?.kind === "slow") {
    const pause = (ms: number) => clock.sleep(ms, closing);
    await sendSlowly(response, answer, dateMs, { totalMs: delivery.ms, pause });
  } else {
    send(response, answer, dateMs);
  }
  record?.deliver("answered");
}

/** Until the client gives up or the simulator closes. */
function forever(response: ServerResponse, closing: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (response.destroyed || closing.aborted) return resolve();
    const done = () => {
      closing.removeEventListener("abort", done);
      response.removeListener("close", done);
      resolve();
    };
    closing.addEventListener("abort", done);
    response.once("close", done);
  });
}
