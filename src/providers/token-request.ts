import { KeyturnError } from "../errors.ts";
import type { CodeGrant, VendorContext } from "../tokens/vendor.ts";
import { signedAssertion } from "./assertion.ts";
import type { ValueObject } from "./expression/values.ts";
import type { Provider, StepPlan, TokenPlan } from "./provider.ts";
import { buildRequest, clientLacks } from "./request.ts";
import { type ClientIdentity, credentialValues, requestLookup, requestValues } from "./request-values.ts";
import type { Outbound } from "./send.ts";

const MAX_EXCHANGE_MS = 60_000;

/** The OAuth client of a context, in the clear; it goes into one request and nowhere else. */
export function identityOf({ client }: Pick<VendorContext, "client">): ClientIdentity | undefined {
  if (client === undefined) return undefined;
  const { privateKey, certificate } = client;
  return {
    id: client.record.clientId,
    secret: client.secret?.reveal(),
    privateKey: privateKey?.key.reveal(),
    keyId: privateKey?.keyId,
    certificate: certificate && { chain: certificate.chain, key: certificate.key.reveal() },
  };
}

/** A request to be sent, or an answer that is made here because nobody has to be asked. */
export type Step =
  | { readonly kind: "send"; readonly request: Outbound }
  | { readonly kind: "made"; readonly body: Uint8Array };

/** The requests of one exchange, in order. */
export interface Steps {
  readonly token: TokenPlan;
  readonly steps: readonly StepPlan[];
}

/** INVALID_REQUEST when there is nothing to ask with. */
export function stepsToSend(
  provider: Provider,
  { slot, credential }: VendorContext,
  code?: CodeGrant,
): Steps {
  const token = provider.tokens.get(slot);
  if (token === undefined) {
    throw new KeyturnError(
      "INVALID_REQUEST",
      "This provider's credentials are not fetched from a token endpoint.",
    );
  }
  const steps = code === undefined ? stepsWith(token, credential) : token.grant;
  if (steps !== undefined) return { token, steps };
  const text =
    code === undefined
      ? token.refreshCredential === "access_token"
        ? "The account has no access token to refresh with."
        : "The account has no refresh token."
      : "This provider's tokens are not got by a code.";
  throw new KeyturnError("INVALID_REQUEST", text);
}

/**
 * The requests that answers came from; the credential may have moved on since. Undefined: the file asks for no such token
 * any more.
 */
export function stepsToRead(
  provider: Provider,
  { slot, credential }: VendorContext,
  code?: CodeGrant,
): Steps | undefined {
  const token = provider.tokens.get(slot);
  if (token === undefined) return undefined;
  const steps = code === undefined ? (stepsWith(token, credential) ?? token.refresh) : token.grant;
  return steps && { token, steps };
}

function stepsWith(
  token: TokenPlan,
  credential: VendorContext["credential"],
): readonly StepPlan[] | undefined {
  const { refresh, refreshCredential, mint } = token;
  const oauth = credential.kind === "oauth" ? credential : undefined;
  const canRefresh =
    refreshCredential === "client" ||
    (refreshCredential === "access_token"
      ? oauth !== undefined && oauth.accessToken.reveal() !== ""
      : oauth?.refreshToken !== undefined);
  return refresh !== undefined && canRefresh ? refresh : mint;
}

/**
 * One request of an exchange, made with what `context.credential` has by now. INVALID_REQUEST or DESTINATION_NOT_ALLOWED
 * when file, client and account do not make a permitted one; nothing is sent then.
 */
export function stepRequest(
  provider: Provider,
  context: VendorContext,
  of: { readonly token: TokenPlan; readonly step: StepPlan; readonly code?: CodeGrant | undefined },
  nowMs: number,
): Step {
  const { token, step } = of;
  const client = identityOf(context);
  requireClient(step, client);
  const values: ValueObject = {
    scope: token.scopes.join(token.scopeSeparator),
    ...credentialValues(context.credential),
    ...(of.code === undefined ? {} : codeValues(of.code)),
  };
  const assertion = step.assertion && assertionOf(provider, context, step.assertion, values, client, nowMs);
  if (step.request === undefined) {
    // The same shape as a token endpoint's answer, so that it is read by the same rules.
    return { kind: "made", body: Buffer.from(JSON.stringify({ access_token: assertion })) };
  }
  const request = buildRequest({
    provider,
    account: context.account,
    plan: step.request,
    client,
    clientAuth: step.clientAuth,
    token,
    values: { ...values, assertion },
    standard: step.standard,
    rename: step.rename,
    nowMs,
    timeoutMs: MAX_EXCHANGE_MS,
  });
  // Only what may be repeated may go out on a connection that may be dead already.
  return { kind: "send", request: { ...request, fresh: !provider.refresh.resendSafe } };
}

function codeValues({ code, redirectUri, codeVerifier, state }: CodeGrant): ValueObject {
  return {
    code: code.reveal(),
    redirect_uri: redirectUri,
    code_verifier: codeVerifier?.reveal(),
    state,
  };
}

function requireClient(step: StepPlan, client: ClientIdentity | undefined): void {
  const named = step.clientAuth !== "none";
  if (client === undefined) {
    if (named)
      throw new KeyturnError("INVALID_REQUEST", "This provider's tokens are asked for by an OAuth client.");
    return;
  }
  const needsSecret = ["header", "body", "client_secret_jwt"].includes(step.clientAuth);
  if (needsSecret && client.secret === undefined) {
    throw clientLacks("secret");
  }
  if (step.clientAuth === "private_key_jwt" && client.privateKey === undefined)
    throw clientLacks("private_key");
}

function assertionOf(
  provider: Provider,
  context: VendorContext,
  plan: NonNullable<StepPlan["assertion"]>,
  values: ValueObject,
  client: ClientIdentity | undefined,
  nowMs: number,
): string {
  const { account } = context;
  const all = { ...requestValues({ account, client, nowMs }), ...values };
  const lookup = requestLookup(provider, account.fields, all);
  const { key } = plan;
  if (key.of === "client" && client !== undefined && client.privateKey === undefined)
    throw clientLacks("private_key");
  const own = key.of === "client" ? client?.privateKey : all[key.field];
  return signedAssertion({
    plan,
    lookup,
    values: all,
    key: typeof own === "string" ? own : undefined,
    missing: "the key to sign with is missing",
    field: key.of === "client" ? "client" : `credential.secrets.${key.field}`,
    keyId: key.of === "client" ? client?.keyId : undefined,
    defaults: { issuer: client?.id, subject: undefined, audience: undefined },
    nowMs,
  });
}
