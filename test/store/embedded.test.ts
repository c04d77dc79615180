import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEmbeddedStore } from "../../src/store/embedded/open.ts";
import { describeStore } from "../contracts/store.ts";

describeStore("the embedded database", async (clock) => {
  const directory = mkdtempSync(join(tmpdir(), "keyturn-store-"));
  const opened = await openEmbeddedStore({ directory, environment: "test", clock });
  return {
    ...opened,
    async close() {
      await opened.close();
      rmSync(directory, { recursive: true });
    },
  };
});
