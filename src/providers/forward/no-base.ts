import { KeyturnError } from "../../errors.ts";
import { fieldLookup } from "../fields.ts";
import type { Provider } from "../provider.ts";
import { renderUrl, writtenUrl } from "../template.ts";

/** Throws DESTINATION_NOT_ALLOWED, with the cause, for a URL whose host may not be called. */
export type RequireHost = (
  url: string,
  allowedHosts: readonly string[],
  permits: Pick<Provider, "allowLoopback" | "allowPrivate">,
) => unknown;

/** Why an account has no base URL, as precisely as whoever would refuse the one that its fields make. */
export function noBaseUrl(
  provider: Provider,
  fields: Readonly<Record<string, string>>,
  hosts: readonly string[],
  requireHost: RequireHost,
): KeyturnError {
  const { name, baseUrl } = provider;
  const refused = (cause: string, message: string, more: Pick<KeyturnError, "metadata" | "violations">) =>
    new KeyturnError("DESTINATION_NOT_ALLOWED", message, {
      metadata: { cause, ...more.metadata, provider: name },
      violations: more.violations,
    });
  const nothing = { metadata: {}, violations: [] };
  if (baseUrl === undefined) return refused("no_base_url", "The provider's file names no base URL.", nothing);
  try {
    const lookup = fieldLookup(provider.fields, fields);
    requireHost(writtenUrl(baseUrl, lookup), hosts, provider);
    renderUrl(baseUrl, lookup);
  } catch (error) {
    if (error instanceof KeyturnError) return refused("account_field", error.message, error);
    throw error;
  }
  return refused("no_base_url", "The account's fields made no base URL when its token was stored.", nothing);
}
