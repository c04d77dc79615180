import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { KeyturnError } from "../errors.ts";

const CIPHER = "aes-256-gcm";
const IV_BYTES = 12;
const TAG_BYTES = 16;

export const DEK_BYTES = 32;

export interface Payload {
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array;
}

/** AES-256-GCM under a data key that encrypts nothing else. */
export function encryptPayload(dek: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Payload {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, dek, iv, { authTagLength: TAG_BYTES });
  cipher.setAAD(aad);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return { iv, ciphertext, tag: cipher.getAuthTag() };
}

/** The plain bytes, which the caller fills with zero. SEAL_INVALID when key, context or bytes are not the sealed ones. */
export function decryptPayload(dek: Uint8Array, aad: Uint8Array, payload: Payload): Buffer {
  // A shorter tag would be a weaker proof.
  const shaped =
    dek.length === DEK_BYTES && payload.iv.length === IV_BYTES && payload.tag.length === TAG_BYTES;
  if (!shaped) throw sealInvalid();
  const decipher = createDecipheriv(CIPHER, dek, payload.iv, { authTagLength: TAG_BYTES });
  decipher.setAAD(aad);
  decipher.setAuthTag(payload.tag);
  const plain = decipher.update(payload.ciphertext);
  try {
    decipher.final();
    return plain;
  } catch {
    plain.fill(0);
    throw sealInvalid();
  }
}

function sealInvalid(): KeyturnError {
  return new KeyturnError(
    "SEAL_INVALID",
    "The sealed value does not open: it was altered, or sealed for another record, tenant or generation.",
  );
}
