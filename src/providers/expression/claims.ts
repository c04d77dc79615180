import { isObject, type Value } from "./values.ts";

/** The claims in a JWT's middle part (RFC 7519 §3), unverified. Undefined when it holds none. */
export function claimsIn(payload: string): Value {
  try {
    const claims: Value = JSON.parse(Buffer.from(payload, "base64url").toString("utf8"));
    return isObject(claims) ? claims : undefined;
  } catch {
    return undefined;
  }
}
