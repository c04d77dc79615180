import { describe, expect, it } from "vitest";
import type { Attempt } from "../../src/tokens/records.ts";
import { account, SAMPLES, slot } from "../store/samples.ts";
import { check } from "./checker.ts";
import type { Histories, Row, Send } from "./histories.ts";

const CLIENT = "app";

/** `one` attempts at revision 2, its note goes at 3, and `two` attempts at 4; both send the same refresh token. */
function taken(concludedBy: readonly string[]): Histories {
  const generation = 1;
  const attempt = (attemptId: string, instance: string, atMs: number): Attempt => {
    const { value } = SAMPLES.attempt;
    return { ...value, attemptId, instance, atMs, generation, incarnation: account("a").incarnation };
  };
  const parts = ["a", "default"] as const;
  const note = { kind: "attempt", parts, heardAtMs: 0 } as const;
  const slots = { default: { ...slot, generation, expiresAtMs: 0 } };
  const rows: readonly Row[] = [
    { kind: "account", parts: ["a"], heardAtMs: 0, revision: 1, value: account("a", { slots }) },
    { ...note, revision: 2, value: attempt("t1", "one", 0) },
    { ...note, revision: 3, value: undefined },
    { ...note, revision: 4, value: attempt("t2", "two", 10) },
  ];
  const send = (attemptId: string, instance: string, atMs: number): Send => {
    const { incarnation } = account("a");
    return { attemptId, instance, atMs, accountId: "a", slot: "default", incarnation, generation };
  };
  const request = {
    grantType: "refresh_token",
    clientId: CLIENT,
    subject: "a",
    fingerprint: "f",
    concurrent: false,
    faults: [],
  };
  const dropped = { ...request, delivery: "dropped", status: undefined } as const;
  const lost = { ...dropped, outcome: "rotated", redeemed: true, reuse: false, seenBefore: false } as const;
  const refused = {
    ...request,
    outcome: "invalid_grant",
    delivery: "answered",
    status: 400,
    redeemed: false,
    reuse: true,
    seenBefore: true,
  } as const;
  return {
    rows,
    sends: [send("t1", "one", 0), send("t2", "two", 10)],
    conclusions: concludedBy.map((instance) => ({ instance, accountId: "a", slot: "default", revision: 2 })),
    requests: [
      { ...lost, sequence: 1, arrivedAtMs: 1, endedAtMs: 2 },
      { ...refused, sequence: 2, arrivedAtMs: 11, endedAtMs: 12 },
    ],
    caps: new Map([[CLIENT, { maxConcurrent: 1, budget: { requests: 2, perMs: 1_000 } }]]),
    lastAnswers: [{ accountId: "a", clientId: CLIENT, answer: "REAUTHORIZATION_REQUIRED/refused" }],
  };
}

const brokenIn = (histories: Histories) =>
  check(histories).violations.map((violation) => violation.split(":")[0]);

describe("the soak's checker", () => {
  it("lets a refresh token be sent again after its holder's word, and not when anybody else takes the note away", () => {
    const resent = "nothing is sent again while its answer may come";
    expect(brokenIn(taken(["one"]))).toEqual([]);
    expect(brokenIn(taken(["two"]))).toEqual(["nobody but its holder concludes an attempt", resent]);
    expect(brokenIn(taken([]))).toEqual(["every conclusion is announced", resent]);
  });

  it("lists the family that ended, and finds nothing wrong with its customer's being needed", () => {
    const { lostFamilies, mostUsed } = check(taken(["one"]));
    expect(lostFamilies).toEqual([{ accountId: "a", fingerprint: "f" }]);
    expect(mostUsed[CLIENT]).toMatchObject({ atATime: 1, inAWindow: 2 });
    const stranger = { accountId: "b", clientId: CLIENT, answer: "REAUTHORIZATION_REQUIRED/refused" };
    expect(brokenIn({ ...taken(["one"]), lastAnswers: [stranger] })).toEqual([
      "everybody is served in the end, or told what they wait for",
    ]);
  });

  it("says when one request more than a cap allows ran at once, or came within a window", () => {
    const caps = new Map([[CLIENT, { maxConcurrent: 0, budget: { requests: 1, perMs: 1_000 } }]]);
    expect(brokenIn({ ...taken(["one"]), caps })).toEqual([
      "requests at a time never exceed their cap",
      "requests in a window never exceed their budget",
    ]);
  });
});
