import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** A new empty folder of mode 0700 that goes with the test. */
export function tempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
