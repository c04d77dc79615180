import { invalid } from "../errors.ts";
import type { Credential } from "../tokens/credential.ts";
import { Secret } from "../tokens/secret.ts";
import type { Provider } from "./provider.ts";

/** What this provider's customers are asked for: the names of the secrets, and which may be empty or left out. */
interface Asked {
  readonly required: readonly string[];
  readonly optional: readonly string[];
}

/** What a customer handed in, as the file's format has it. INVALID_REQUEST names the secret that is missing or unknown. */
export function secretCredential(
  provider: Provider,
  secrets: Readonly<Record<string, string>>,
  nowMs: number,
  expiresAtMs: number | undefined,
): Credential {
  const { format } = provider.file.credentials;
  const { required, optional } = askedOf(provider);
  const names = [...required, ...optional];
  const unknown = Object.keys(secrets).find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw invalid(`secrets.${unknown}`, `this provider asks for ${names.join(", ") || "nothing"}`);
  const missing = required.find((name) => (secrets[name] ?? "") === "");
  if (missing !== undefined) throw invalid(`secrets.${missing}`, "this provider needs it");
  const values = Object.fromEntries(names.map((name) => [name, new Secret(secrets[name] ?? "")]));
  switch (format) {
    case "api_key":
    case "basic":
    case "bearer":
      return {
        kind: format,
        versions: [{ version: "1", state: "active", createdAtMs: nowMs, values }],
        expiresAtMs,
      };
    default:
      return { kind: "unminted", source: names.length === 0 ? undefined : values };
  }
}

function askedOf(provider: Provider): Asked {
  const { credentials } = provider.file;
  switch (credentials.format) {
    case "api_key":
      return { required: Object.keys(credentials.config?.fields ?? { api_key: {} }), optional: [] };
    case "basic":
      return { required: [], optional: ["username", "password"] };
    case "bearer":
      return { required: ["token"], optional: [] };
    case "oauth2":
      throw invalid("provider", `accounts of ${provider.name} are connected with StartAuthorization`);
    default:
      return { required: provider.token?.customerFields ?? [], optional: [] };
  }
}
