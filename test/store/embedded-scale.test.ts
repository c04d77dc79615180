import { describe, expect, it } from "vitest";
import { key } from "../../src/tokens/records.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { storeIn } from "./embedded-setup.ts";
import { account, transaction } from "./samples.ts";

const ACCOUNTS = 100_000;
const PAGE = 1_000;

describe("a hundred thousand accounts", () => {
  it("are scanned at a start, each once, in a few seconds", { timeout: 60_000 }, async () => {
    const directory = tempFolder();
    const first = await storeIn(directory);
    const writes: Promise<unknown>[] = [];
    for (let from = 0; from < ACCOUNTS; from += PAGE) {
      const ids = Array.from({ length: PAGE }, (_, n) => `account-${from + n}`);
      const puts = ids.map((id) => ({ put: key("account", id), value: account(id) }));
      writes.push(first.store.write(transaction({ writes: puts })));
    }
    await Promise.all(writes);
    await first.close();
    const openMs = performance.now();
    const { store } = await storeIn(directory);
    const scanMs = performance.now();
    const seen = new Set<string>();
    for (let after: string | undefined = ""; after !== undefined; ) {
      const page: Awaited<ReturnType<typeof store.scan<"account">>> = await store.scan(
        "account",
        after,
        PAGE,
      );
      for (const { value } of page.entries) seen.add(value.id);
      after = page.next;
    }
    const endMs = performance.now();
    expect(seen.size).toBe(ACCOUNTS);
    console.log(
      `${ACCOUNTS} accounts: opened in ${Math.round(scanMs - openMs)} ms, scanned in ${Math.round(endMs - scanMs)} ms`,
    );
    expect(endMs - openMs).toBeLessThan(20_000);
  });
});
