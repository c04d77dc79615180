import { randomFillSync } from "node:crypto";

const BYTES = 12;
/** Asking for random bytes costs the same for one id as for these. */
const AT_ONCE = 256;

/** Makes ids: 96 random bits each, as 16 characters of base64url. */
export function idMaker(): () => string {
  const pool = Buffer.alloc(BYTES * AT_ONCE);
  let at = pool.length;
  return () => {
    if (at === pool.length) {
      randomFillSync(pool);
      at = 0;
    }
    at += BYTES;
    return pool.toString("base64url", at - BYTES, at);
  };
}
