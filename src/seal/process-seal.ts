import { createCipheriv, createDecipheriv, generateKeySync } from "node:crypto";
import { KeyturnError } from "../errors.ts";
import type { AnswerVault } from "../tokens/token.ts";

// Of the ciphers with authentication this is the fastest here for 700 bytes, a little ahead of ChaCha20-Poly1305.
const CIPHER = "aes-256-gcm";
const IV_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = IV_BYTES + TAG_BYTES;
const OPTIONS = { authTagLength: TAG_BYTES } as const;

/** Synchronous sealing of cached answers as IV, tag and ciphertext in one Buffer. */
export interface ProcessSeal extends AnswerVault {
  seal(answer: Uint8Array): Buffer;
  /**
   * SEAL_INVALID for anything that this very object has not sealed. Within one turn of the event loop everybody who
   * opens the same object gets the same buffer, which nobody may write into: a burst of calls for one account costs
   * one opening.
   */
  open(sealed: Uint8Array): Buffer;
}

/** A seal under a new random key that lives outside the JavaScript heap and ends with the process. */
export function createProcessSeal(): ProcessSeal {
  const key = generateKeySync("aes", { length: 256 });
  let sealedSoFar = 0;
  /** What lies open until the end of this turn, at which the calls that asked for it have their answers. */
  let open = new Map<Uint8Array, Buffer>();
  const shut = () => {
    open = new Map();
  };
  return {
    seal(answer) {
      const out = Buffer.allocUnsafeSlow(HEAD_BYTES + answer.length);
      const iv = out.subarray(0, IV_BYTES);
      // A counter never repeats under a key that no other process has; random ones would, after some 2^32 seals.
      sealedSoFar += 1;
      iv.fill(0).writeUIntBE(sealedSoFar, IV_BYTES - 6, 6);
      const cipher = createCipheriv(CIPHER, key, iv, OPTIONS);
      out.set(cipher.update(answer), HEAD_BYTES);
      cipher.final();
      out.set(cipher.getAuthTag(), IV_BYTES);
      return out;
    },
    open(sealed) {
      const opened = open.get(sealed);
      if (opened !== undefined) return opened;
      if (sealed.length < HEAD_BYTES) throw sealInvalid();
      const decipher = createDecipheriv(CIPHER, key, sealed.subarray(0, IV_BYTES), OPTIONS);
      decipher.setAuthTag(sealed.subarray(IV_BYTES, HEAD_BYTES));
      const plain = decipher.update(sealed.subarray(HEAD_BYTES));
      try {
        decipher.final();
      } catch {
        plain.fill(0);
        throw sealInvalid();
      }
      if (open.size === 0) setImmediate(shut);
      open.set(sealed, plain);
      return plain;
    },
  };
}

function sealInvalid(): KeyturnError {
  return new KeyturnError("SEAL_INVALID", "The cached answer does not open under this process's key.");
}
