import { describe, expect, it } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { toKeyturnError } from "../../src/rpc/status.ts";
import type { EtcdClient } from "../../src/store/etcd/client.ts";
import { EtcdKv } from "../../src/store/etcd/etcd-kv.ts";
import { Leases } from "../../src/store/etcd/leases.ts";

const HEADER = { cluster_id: "1", member_id: "1", revision: "7", raft_term: "1" };
const WRITE = {
  compares: [],
  writes: [{ put: "/k", value: new Uint8Array([1]), ttlMs: undefined }],
  readAfter: [],
  readInstead: [],
};

/** Over an etcd that answers everything at once, with yes. */
function kvOf(sure: () => Promise<boolean> | undefined): EtcdKv {
  const client = {
    call: async () => ({ header: HEADER, succeeded: true, responses: [] }),
  } as unknown as EtcdClient;
  const clock = systemClock();
  const session = { leaseId: "1" } as const;
  return new EtcdKv({
    client,
    clock,
    leases: new Leases(client, clock),
    session,
    sessionKeys: [],
    onAnswer: () => undefined,
    sure,
  });
}

async function failureOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (failure: unknown) => toKeyturnError(failure),
  );
  return error === undefined ? "none" : `${error.reason} ${error.metadata["ambiguous"] ?? "certain"}`;
}

describe("an answer of etcd that may not be believed", () => {
  it.each([
    {
      what: "as nobody says whether the store is the same",
      sure: () => Promise.reject(new Error("no answer")),
    },
    { what: "as the store was set back meanwhile", sure: () => Promise.resolve(false) },
  ])("counts as none, $what: a write may have landed, a read has to be asked again", async ({ sure }) => {
    expect(await failureOf(kvOf(sure).transact(WRITE))).toBe("STORE_UNAVAILABLE true");
    expect(await failureOf(kvOf(sure).read([{ key: "/k" }]))).toBe("STORE_UNAVAILABLE certain");
  });

  it("is believed when there is no doubt, or none any more", async () => {
    for (const sure of [() => undefined, () => Promise.resolve(true)])
      expect((await kvOf(sure).transact(WRITE)).applied).toBe(true);
  });
});
