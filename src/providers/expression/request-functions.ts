import { createHash, createHmac } from "node:crypto";
import { signJwt } from "../jwt.ts";
import type { Budget } from "./budget.ts";
import { type Argument, FUNCTIONS, type Functions, plain, text } from "./functions.ts";
import { isObject } from "./values.ts";

const HASHES = ["md5", "sha1", "sha256", "sha384", "sha512"];
const ENCODINGS = ["hex", "base64", "base64url"] as const;
/** A private-key signature costs about as much as this many steps. */
const SIGNATURE_STEPS = 2_000;

/**
 * What a request's expressions may call beside `FUNCTIONS`. They are functions of their arguments alone: the time, the
 * nonce and the UUID of a request are values of it, the same in all of its expressions.
 */
export const REQUEST_FUNCTIONS: Functions = {
  ...FUNCTIONS,
  /** `$hash(algorithm, text, encoding = "hex")`. */
  hash: {
    min: 2,
    max: 3,
    call: (args, budget) =>
      createHash(hashOf(args))
        .update(spent(args, 1, budget))
        .digest(encodingOf(args, 2)),
  },
  /** `$hmac(algorithm, key, text, encoding = "hex")`. */
  hmac: {
    min: 3,
    max: 4,
    call: (args, budget) =>
      createHmac(hashOf(args), text(args, 1))
        .update(spent(args, 2, budget))
        .digest(encodingOf(args, 3)),
  },
  /** `$jwt(claims, key, header = {})`. */
  jwt: {
    min: 2,
    max: 3,
    call: (args, budget) => {
      budget.spend(SIGNATURE_STEPS);
      const claims = plain(args, 0);
      const header = args[2] === undefined ? {} : plain(args, 2);
      if (!isObject(claims) || !isObject(header)) throw new TypeError("claims and header are objects");
      return budget.text(signJwt(claims, text(args, 1), header));
    },
  },
  /** `$basic(user, password)`: the value of an `Authorization` header (RFC 7617), in UTF-8. */
  basic: {
    min: 2,
    max: 2,
    call: (args, budget) =>
      budget.text(`Basic ${Buffer.from(`${text(args, 0)}:${text(args, 1)}`).toString("base64")}`),
  },
};

function hashOf(args: readonly Argument[]): string {
  const name = text(args, 0);
  if (HASHES.includes(name)) return name;
  throw new TypeError(`the hash is one of ${HASHES.join(", ")}`);
}

function encodingOf(args: readonly Argument[], at: number): (typeof ENCODINGS)[number] {
  const name = args[at] === undefined ? "hex" : text(args, at);
  const encoding = ENCODINGS.find((each) => each === name);
  if (encoding !== undefined) return encoding;
  throw new TypeError(`the encoding is one of ${ENCODINGS.join(", ")}`);
}

function spent(args: readonly Argument[], at: number, budget: Budget): string {
  return budget.text(text(args, at));
}
