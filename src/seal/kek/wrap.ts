import { createCipheriv, createDecipheriv, type KeyObject, randomBytes } from "node:crypto";
import { KeyturnError } from "../../errors.ts";
import { KEY_BYTES } from "./keyring.ts";

const CIPHER = "aes-256-gcm";
const IV_BYTES = 12;
const TAG_BYTES = 16;
const WRAPPED_BYTES = IV_BYTES + KEY_BYTES + TAG_BYTES;
const OPTIONS = { authTagLength: TAG_BYTES } as const;

/** IV, ciphertext and tag of a data key, in one Buffer. */
export function encryptKey(key: KeyObject, dek: Uint8Array): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, key, iv, OPTIONS);
  const sealed = Buffer.concat([cipher.update(dek), cipher.final()]);
  return Buffer.concat([iv, sealed, cipher.getAuthTag()]);
}

/** The data key, which the caller fills with zero. SEAL_INVALID when altered or encrypted under another key. */
export function decryptKey(key: KeyObject, bytes: Uint8Array): Buffer {
  if (bytes.length !== WRAPPED_BYTES) throw altered();
  const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, IV_BYTES), OPTIONS);
  decipher.setAuthTag(bytes.subarray(IV_BYTES + KEY_BYTES));
  const dek = decipher.update(bytes.subarray(IV_BYTES, IV_BYTES + KEY_BYTES));
  try {
    decipher.final();
  } catch {
    dek.fill(0);
    throw altered();
  }
  return dek;
}

function altered(): KeyturnError {
  return new KeyturnError("SEAL_INVALID", "The wrapped data key was altered, or wrapped by another keyring.");
}
