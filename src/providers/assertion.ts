import { randomUUID } from "node:crypto";
import { invalid } from "../errors.ts";
import type { ValueObject } from "./expression/values.ts";
import { type Claims, signJwt } from "./jwt.ts";
import type { AssertionPlan } from "./provider.ts";
import { resolveText, resolveValue } from "./request-values.ts";
import type { Lookup } from "./template.ts";

/** How an assertion is made of a request's values. */
export interface Asserting {
  readonly plan: AssertionPlan;
  readonly lookup: Lookup;
  readonly values: ValueObject;
  /** A secret or a private key; what INVALID_REQUEST says when there is none. */
  readonly key: string | undefined;
  readonly missing: string;
  /** Whose key it is, for errors: `client`, or a field of the customer's. */
  readonly field: string;
  readonly keyId: string | undefined;
  /** Where the file is silent. */
  readonly defaults: {
    readonly issuer: string | undefined;
    readonly subject: string | undefined;
    readonly audience: string | undefined;
  };
  /** For a key that is a shared secret. */
  readonly algorithm?: string;
  readonly nowMs: number;
}

/**
 * A signed assertion (RFC 7523 §3) with a `jti` of its own. The file's claims win; one that gives nothing goes. INVALID_REQUEST
 * when there is no key, or it cannot sign.
 */
export function signedAssertion(of: Asserting): string {
  const { plan, lookup, values, defaults } = of;
  if (of.key === undefined) throw invalid(of.field, of.missing);
  const text = (what: string, value: AssertionPlan["issuer"]) =>
    resolveText(`assertion.${what}`, value, lookup, values);
  const issuedAt = Math.floor(of.nowMs / 1_000);
  const own = plan.claims.map(([name, value]) => [
    name,
    resolveValue(`assertion.claims.${name}`, value, lookup, values),
  ]);
  const claims: Claims = {
    iss: text("issuer", plan.issuer) ?? defaults.issuer,
    sub: text("subject", plan.subject) ?? defaults.subject,
    aud: text("audience", plan.audience) ?? defaults.audience,
    jti: randomUUID(),
    iat: issuedAt,
    exp: issuedAt + Math.ceil(plan.lifetimeMs / 1_000),
    ...Object.fromEntries(own),
  };
  try {
    return signJwt(claims, of.key, {
      alg: plan.algorithm ?? of.algorithm,
      kid: text("keyId", plan.keyId) ?? of.keyId,
    });
  } catch (error) {
    if (error instanceof TypeError)
      throw invalid(of.field, `an assertion cannot be signed: ${error.message}`);
    throw error;
  }
}
