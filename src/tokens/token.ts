import { invalid } from "../errors.ts";
import type { Account, SlotKey } from "./account.ts";
import type { UseContext } from "./vendor.ts";

/** Names one token for ever: which incarnation of the account, which slot, which generation. Opaque to callers. */
export function revisionOf(account: Pick<Account, "incarnation">, slot: string, generation: number): string {
  return Buffer.from(JSON.stringify([account.incarnation, slot, generation])).toString("base64url");
}

/** INVALID_REQUEST when `text` is not a revision this product gave out. */
export function parseRevision(text: string): {
  readonly incarnation: string;
  readonly slot: string;
  readonly generation: number;
} {
  try {
    const [incarnation, slot, generation, ...rest] = JSON.parse(
      Buffer.from(text, "base64url").toString("utf8"),
    );
    if (
      typeof incarnation === "string" &&
      typeof slot === "string" &&
      Number.isSafeInteger(generation) &&
      rest.length === 0
    ) {
      return { incarnation, slot, generation };
    }
  } catch {
    // falls through to the one error
  }
  throw invalid("rejected_revision", "is not a revision; give back the `revision` of a token unchanged");
}

/** Turns a credential into the bytes of the answer that callers get. Throws as `Vendors.authorize` does. */
export type RenderAnswer = (context: UseContext) => Uint8Array;

/** Seals rendered answers under a key of this process, so that no token lies in the heap between calls. */
export interface AnswerVault {
  seal(answer: Uint8Array): Uint8Array;
  open(sealed: Uint8Array): Uint8Array;
}

/** What a caller asks of one slot. */
export interface Ask {
  readonly key: SlotKey;
  /** Validity the token must have left; 0 takes the buffer alone. */
  readonly minValidityMs: number;
  /** The generation that the vendor refused, when the caller says so and it was of this incarnation. */
  readonly rejected: { readonly incarnation: string; readonly generation: number } | undefined;
  readonly trigger: "demand" | "proactive" | "operator" | "bulk";
  /** For `proactive`: accounts due until then count as due. */
  readonly dueUntilMs?: number;
  /** For `bulk`: the generation that is to be replaced. A newer one needs nothing. */
  readonly replaces?: number;
}
