import type { Answer } from "./answer.ts";
import type { ShapeFault, Who } from "./faults.ts";
import type { TokenRecord } from "./history.ts";
import type { Incoming } from "./parameters.ts";

/** Takes a fault that bends a right answer, when one is on for this request. */
export type Bend = <K extends ShapeFault["kind"]>(kind: K) => Extract<ShapeFault, { kind: K }> | undefined;

/** A request understood, before the vendor's logic runs. */
export interface Prepared {
  /** For aiming faults. */
  readonly who: Who;
  /** Undefined but at the token endpoint. */
  readonly record?: TokenRecord;
  /** The vendor's logic: checks, changes and answers in one indivisible step. */
  run(nowMs: number, bend: Bend): Answer;
}

/** Understands a request; changes nothing but the counters. */
export type Endpoint = (incoming: Incoming) => Prepared;
