import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { tempFolder } from "../fakes/temp-folder.ts";
import { ACTOR, CONTEXT, PLAIN, sealing, sealOne } from "../seal/setup.ts";
import { auditIn } from "./setup.ts";

describe("a trail of sealing and opening", () => {
  it("holds no plain value and no key, refusals included", async () => {
    const directory = tempFolder();
    const audit = await auditIn(directory);
    const keys: Buffer[] = [];
    const { sealer, file, deks, audited } = await sealing(
      (kek) => ({
        async unwrap(wrapped, signal) {
          const dek = await kek.unwrap(wrapped, signal);
          keys.push(Buffer.from(dek));
          return dek;
        },
      }),
      ({ operation, outcome, actor, context, kekId, kekVersion = 0 }) =>
        audit.record({
          operation: `kek.${operation}`,
          outcome,
          ...actor,
          tenant: context?.tenant ?? "",
          account: context?.id ?? "",
          kekId,
          kekVersion,
          detail: { context: JSON.stringify(context) },
        }),
    );
    const sealed = await sealOne(sealer);
    await sealer.open(CONTEXT, sealed, ACTOR);
    await sealer.open({ ...CONTEXT, tenant: "other" }, sealed, ACTOR).catch(() => undefined);
    await sealer.rewrap(sealed, ACTOR);
    await audit.close();
    expect(audited).toHaveLength(4);
    expect(deks).not.toHaveLength(0);
    const written = readdirSync(directory)
      .map((name) => readFileSync(join(directory, name), "latin1"))
      .join("");
    expect(written.split("\n")).toHaveLength(5);
    const kekText = String(JSON.parse(readFileSync(file, "utf8")).versions[0].key);
    const secrets = [PLAIN, ...keys, Buffer.from(kekText, "base64")];
    expect(secrets).toHaveLength(4);
    for (const secret of secrets) {
      for (const encoding of ["latin1", "hex", "base64", "base64url"] as const) {
        expect(written).not.toContain(secret.toString(encoding));
      }
    }
  });
});
