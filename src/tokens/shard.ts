import { hash } from "node:crypto";

/** The slice of the accounts that an account is in, for ever: the first byte of SHA-256 of its id, as two hex digits. */
export function shardOf(accountId: string): string {
  return hash("sha256", accountId, "hex").slice(0, 2);
}

/** All of them. */
export const SHARDS: readonly string[] = Array.from({ length: 256 }, (_, n) =>
  n.toString(16).padStart(2, "0"),
);

/**
 * Whose each shard should be: of the members the one whose hash with it is the highest, so that a member that comes or
 * goes moves only what it gets or had.
 */
export function sharesOf(members: readonly string[]): ReadonlyMap<string, string> {
  const shares = new Map<string, string>();
  for (const shard of SHARDS) {
    let best = "";
    let owner: string | undefined;
    for (const member of members) {
      const score = hash("sha256", `${shard}/${member}`, "hex");
      if (score <= best) continue;
      best = score;
      owner = member;
    }
    if (owner !== undefined) shares.set(shard, owner);
  }
  return shares;
}
