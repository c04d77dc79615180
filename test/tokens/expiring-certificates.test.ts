import { expect, it } from "vitest";
import { tellExpiringCertificates } from "../../src/tokens/expiring-certificates.ts";
import { key, type OAuthClient } from "../../src/tokens/records.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { ManualClock } from "../store/manual-clock.ts";
import { transaction } from "../store/samples.ts";

const DAY_MS = 86_400_000;
const AT = key("client", "vendor", "main");

function setup(leftMs: number, owns = true) {
  const clock = new ManualClock();
  const memory = new MemoryStore(clock);
  const put = (notAfterMs: number) => {
    const client: OAuthClient = {
      provider: "vendor",
      name: "main",
      clientId: "id",
      caps: { maxConcurrent: undefined, budget: undefined },
      labels: {},
      generation: 1,
      secrets: [],
      certificate: { subject: "CN=app", fingerprint: "ab", notAfterMs },
      onHold: undefined,
      fault: undefined,
      createdAtMs: 0,
      updatedAtMs: 0,
    };
    memory.writeNow(transaction({ writes: [{ put: AT, value: client }] }));
  };
  put(clock.now() + leftMs);
  let ids = 0;
  const round = () =>
    tellExpiringCertificates(
      {
        clock,
        newId: () => `id-${++ids}`,
        store: {
          read: async (reads) => memory.readNow(reads),
          write: async (wanted) => memory.writeNow(wanted),
          scan: async (kind, after, limit) => memory.scanNow(kind, after, limit),
        },
      },
      { owns: () => owns, share: 1 },
      new AbortController().signal,
    );
  return { clock, memory, put, round };
}

it("says once that a client's certificate will end, seven days ahead and not earlier", async () => {
  const { clock, memory, round } = setup(7 * DAY_MS + 1);
  await round();
  expect(memory.events).toEqual([]);
  clock.advance(1);
  await round();
  await round();
  expect(memory.events).toMatchObject([
    {
      type: "oauth_client:expiring",
      provider: "vendor",
      client: "main",
      accountId: "",
      reason: "certificate",
      detail: { ends_at_ms: String(clock.now() + 7 * DAY_MS) },
    },
  ]);
});

it("says it again of the certificate that came in its place", async () => {
  const { clock, memory, put, round } = setup(DAY_MS);
  await round();
  put(clock.now() + 90 * DAY_MS);
  await round();
  expect(memory.events).toHaveLength(1);
  clock.advance(84 * DAY_MS);
  await round();
  expect(memory.events).toHaveLength(2);
});

it("leaves the clients of other members to them", async () => {
  const { memory, round } = setup(DAY_MS, false);
  await round();
  expect(memory.events).toEqual([]);
});
