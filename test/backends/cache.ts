import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

const LOOK_AGAIN_MS = 200;

/** Where the real parts are kept between runs, outside of the checkout. */
export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "keyturn-test");
}

/**
 * A folder of the cache that `make` fills when it is not there yet. Whole or absent: it is filled elsewhere and then
 * renamed. Of several processes one makes it, and the others wait for that one.
 */
export async function kept(name: string, make: (folder: string) => void): Promise<string> {
  const cache = cacheFolder();
  const place = join(cache, name);
  if (existsSync(place)) return place;
  mkdirSync(cache, { recursive: true });
  const lock = `${place}.lock`;
  while (!take(lock)) {
    await delay(LOOK_AGAIN_MS);
    if (existsSync(place)) return place;
  }
  const folder = mkdtempSync(`${place}.new-`);
  try {
    if (existsSync(place)) return place;
    make(folder);
    renameSync(folder, place);
    return place;
  } finally {
    rmSync(folder, { recursive: true, force: true });
    rmSync(lock, { force: true });
  }
}

function take(lock: string): boolean {
  try {
    writeFileSync(lock, String(process.pid), { flag: "wx" });
    return true;
  } catch {
    if (!holderLives(lock)) rmSync(lock, { force: true });
    return false;
  }
}

function holderLives(lock: string): boolean {
  try {
    const pid = Number(readFileSync(lock, "utf8"));
    // Created and not yet written to.
    if (pid === 0) return true;
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
