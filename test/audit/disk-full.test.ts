import { readFileSync, statSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { verifyAudit } from "../../src/audit/verify.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { ManualClock } from "../store/manual-clock.ts";
import { auditIn, entry, queried, segmentsOf, smallDisk } from "./setup.ts";

const FULL = { reason: "STATE_DISK_FULL", metadata: { cause: "audit" } };

describe("a full disk", () => {
  it.each(["ENOSPC", "EDQUOT"])(
    "is STATE_DISK_FULL, and the chain is intact then and afterwards: %s",
    async (code) => {
      const directory = tempFolder();
      const { room, openSegment } = smallDisk();
      room.code = code;
      const audit = await auditIn(directory, undefined, { openSegment });
      await audit.record(entry("account-1"));
      const head = audit.head();
      const [path = ""] = segmentsOf(directory);
      room.bytes = statSync(path).size + 100;
      const bytes = readFileSync(path);
      const refused = await Promise.allSettled([
        audit.record(entry("lost-1")),
        audit.record(entry("lost-2")),
      ]);
      expect(refused).toMatchObject([{ reason: FULL }, { reason: FULL }]);
      expect(audit.head()).toEqual(head);
      expect(readFileSync(path)).toEqual(bytes);
      room.bytes = Number.POSITIVE_INFINITY;
      await audit.record(entry("account-2"));
      expect((await queried(audit)).map(({ account }) => account)).toEqual(["account-1", "account-2"]);
      expect(await verifyAudit(directory, audit.head())).toMatchObject({ intact: true, records: 2 });
    },
  );

  it("on which not even the half line can be taken back is cleaned before the next record", async () => {
    const directory = tempFolder();
    const { room, openSegment } = smallDisk();
    const audit = await auditIn(directory, undefined, { openSegment });
    await audit.record(entry("account-1"));
    const [path = ""] = segmentsOf(directory);
    room.bytes = statSync(path).size + 100;
    room.truncates = false;
    await expect(audit.record(entry("lost"))).rejects.toMatchObject(FULL);
    expect((await queried(audit)).map(({ account }) => account)).toEqual(["account-1"]);
    await expect(audit.record(entry("lost"))).rejects.toMatchObject(FULL);
    room.bytes = Number.POSITIVE_INFINITY;
    room.truncates = true;
    await audit.record(entry("account-2"));
    expect(await verifyAudit(directory, audit.head())).toMatchObject({ intact: true, records: 2 });
  });

  it("at the start of a new file leaves a chain that goes on in it", async () => {
    const directory = tempFolder();
    const clock = new ManualClock();
    const { room, openSegment } = smallDisk();
    const audit = await auditIn(directory, clock, { openSegment });
    await audit.record(entry("account-1"));
    clock.advance(86_400_000);
    room.bytes = 10;
    await expect(audit.record(entry("lost"))).rejects.toMatchObject(FULL);
    room.bytes = Number.POSITIVE_INFINITY;
    clock.advance(86_400_000);
    await audit.record(entry("account-2"));
    expect(await verifyAudit(directory, audit.head())).toMatchObject({ intact: true, records: 2 });
    await audit.close();
    await (await auditIn(directory, clock)).record(entry("account-3"));
    expect(await verifyAudit(directory)).toMatchObject({ intact: true, records: 3 });
  });

  it("loses no opening of a cached token: they go on being counted", async () => {
    const clock = new ManualClock();
    const { room, openSegment } = smallDisk();
    const audit = await auditIn(tempFolder(), clock, { openSegment });
    await audit.record(entry("account-1"));
    room.bytes = 0;
    audit.warmOpen("acme", "reports", "get_token");
    clock.advance(50_000);
    await new Promise((resolve) => setTimeout(resolve, 20));
    audit.warmOpen("acme", "reports", "get_token");
    room.bytes = Number.POSITIVE_INFINITY;
    clock.advance(50_000);
    await expect.poll(() => queried(audit, { account: "acme" })).toMatchObject([{ count: 2 }]);
  });

  it("at the end is told: what could not be written down fails the closing", async () => {
    const { room, openSegment } = smallDisk();
    const audit = await auditIn(tempFolder(), undefined, { openSegment });
    audit.warmOpen("acme", "reports", "get_token");
    room.bytes = 0;
    await expect(audit.close()).rejects.toMatchObject({ metadata: { cause: "audit" } });
  });
});
