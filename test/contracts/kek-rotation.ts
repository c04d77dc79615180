import { describe, expect, it } from "vitest";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { KeyService, type RewrapKeysResponse } from "../../src/gen/keyturn/v1/key_service_pb.js";
import { type Caller, putSimulatorClient, reasonOf } from "../e2e/harness.ts";
import { serve } from "../e2e/serving-process.ts";

/** Where a sidecar with a fresh KEK runs. */
export interface FreshSidecar {
  readonly stateDir: string;
  /** Of the sidecar, for its KEK. */
  readonly config: string;
  /** The key administrator's credential; empty where the backend asks for none. */
  readonly authority: string;
}

// More than two pages of the rewrap, so that one of them is behind it when it is killed.
const ACCOUNTS = 450;
// With the client, and the key of content marks.
const SEALED = BigInt(ACCOUNTS + 2);
const id = (n: number) => `a${n}`;

/** For every account: as many at once as a store on a busy machine answers in time. */
async function someAtATime(act: (accountId: string) => Promise<unknown>): Promise<void> {
  for (let from = 0; from < ACCOUNTS; from += 50)
    await Promise.all(Array.from({ length: 50 }, (_, n) => act(id(from + n))));
}

async function createAccounts(admin: Caller): Promise<void> {
  const expireTime = { seconds: BigInt(Math.floor(Date.now() / 1_000) + 86_400), nanos: 0 };
  await someAtATime((accountId) => {
    const value = { accessToken: `at-${accountId}`, refreshToken: `rt-${accountId}`, expireTime };
    const about = { accountId, provider: "simulator", client: "main", fields: { port: "8080" } };
    return admin.call(AccountService.method.createAccount, {
      ...about,
      credential: { kind: { case: "oauth", value } },
    });
  });
}

/** Reads one account after the other, each of them cold, until told to stop. */
function readers(data: Caller) {
  const seen = { reads: 0, failed: [] as string[] };
  let stopped = false;
  const one = async (start: number) => {
    for (let n = start; !stopped; n = (n + 7) % ACCOUNTS) {
      const read = data.call(CredentialService.method.getToken, { accountId: id(n) });
      const outcome = await read.then(
        ({ accessToken }) => (accessToken === `at-${id(n)}` ? "" : "wrong"),
        reasonOf,
      );
      seen.reads += 1;
      if (outcome !== "") seen.failed.push(outcome);
    }
  };
  const running = [0, 100, 200, 300].map(one);
  return {
    seen,
    stop: async () => {
      stopped = true;
      await Promise.all(running);
    },
  };
}

/** What every backend's rotation promises, through a whole sidecar. */
export function kekRotationContract(name: string, fresh: () => Promise<FreshSidecar>): void {
  describe(`the rotation of a KEK in ${name}`, () => {
    it("fails no read, survives a kill in the midst of its rewrap, and ends with everything under the new version", async () => {
      const { stateDir, config, authority } = await fresh();
      const all = { stateDir, config: `${config}\ncache: { max_accounts: 1 }` };
      const first = await serve(all);
      await putSimulatorClient(first.admin);
      await createAccounts(first.admin);
      const before = readers(first.data);
      expect(await first.admin.call(KeyService.method.rotateKek, { authority })).toMatchObject({
        version: 2,
      });
      const early = first.admin.call(KeyService.method.retireKekVersion, { version: 1, authority });
      await expect(early).rejects.toMatchObject({
        details: expect.stringContaining(`${ACCOUNTS} credentials`),
      });

      const killed = first.admin.stream(KeyService.method.rewrapKeys, { maxPerSecond: 150 });
      killed.on("error", () => undefined);
      for await (const { done } of killed as AsyncIterable<RewrapKeysResponse>) {
        if (done < 250n) continue;
        await before.stop();
        break;
      }
      await first.end("SIGKILL");
      expect(before.seen.failed).toEqual([]);

      const second = await serve(all);
      const half = await second.admin.call(KeyService.method.getKekStatus, {});
      const [old, young] = half.versions.map(({ uses }) => uses);
      expect(old).toBeGreaterThan(0n);
      expect(young).toBeGreaterThan(0n);
      expect((old ?? 0n) + (young ?? 0n)).toBe(SEALED);

      const meanwhile = readers(second.data);
      const resumed: RewrapKeysResponse[] = [];
      for await (const progress of second.admin.stream(KeyService.method.rewrapKeys, { maxPerSecond: 200 }))
        resumed.push(progress);
      await meanwhile.stop();
      expect(meanwhile.seen.failed).toEqual([]);
      expect(meanwhile.seen.reads).toBeGreaterThan(0);
      // Where it was: the last page of 200 that had been told of before the kill.
      expect(resumed[0]?.done).toBeGreaterThanOrEqual(200n);
      expect(resumed[0]?.done).toBeLessThan(SEALED);
      expect(resumed.at(-1)).toMatchObject({ finished: true, done: SEALED, total: SEALED });
      expect(resumed.at(-1)?.verified).toBeGreaterThanOrEqual(100n);

      await second.admin.call(KeyService.method.retireKekVersion, { version: 1, authority });
      const { versions } = await second.admin.call(KeyService.method.getKekStatus, {});
      expect(versions.map(({ version, retired, uses }) => ({ version, retired, uses }))).toMatchObject([
        { version: 1, retired: true, uses: 0n },
        { version: 2, retired: false, uses: SEALED },
      ]);
      await someAtATime((accountId) => second.data.call(CredentialService.method.getToken, { accountId }));
    }, 90_000);
  });
}
