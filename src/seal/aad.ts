import { KeyturnError } from "../errors.ts";
import type { SealContext } from "../tokens/sealing.ts";

/** The only layout of sealed values that this release reads and writes. */
export const SEAL_FORMAT = 1;

/**
 * Associated data of the payload cipher: format version, kind, environment, tenant, id, incarnation, slot, generation,
 * each as a 4-byte big-endian length and its UTF-8 bytes, so that no two contexts encode alike. SEAL_INVALID for text
 * that has no UTF-8.
 */
export function associatedData(environment: string, context: SealContext): Buffer {
  const { kind, tenant, id, incarnation, slot, generation } = context;
  const texts = [String(SEAL_FORMAT), kind, environment, tenant, id, incarnation, slot, String(generation)];
  const parts: Buffer[] = [];
  for (const text of texts) {
    // A lone surrogate would become U+FFFD, the same bytes for different texts.
    if (!text.isWellFormed()) {
      throw new KeyturnError(
        "SEAL_INVALID",
        "A sealed value cannot belong to a name that is not valid Unicode.",
      );
    }
    const bytes = Buffer.from(text, "utf8");
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}
