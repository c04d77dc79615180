import { fromJsonString, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { invalid } from "../errors.ts";
import { CredentialSchema } from "../gen/keyturn/v1/account_service_pb.js";
import type { Secret } from "../tokens/secret.ts";
import type { Invocation, Option } from "./command.ts";

type Init = MessageInitShape<typeof CredentialSchema>;

/** How a credential is given. No option takes a secret itself. */
export const CREDENTIAL_OPTIONS: Readonly<Record<string, Option>> = {
  "credential-file": { value: "PATH", help: "the whole credential as JSON; - is stdin" },
  "access-token-file": { value: "PATH", help: "OAuth access token; - is stdin" },
  "refresh-token-file": { value: "PATH", help: "OAuth refresh token; - is stdin" },
  scope: { value: "SCOPE", help: "granted scope", many: true },
  "api-key-file": { value: "PATH", help: "API key; - is stdin" },
  "username-file": {
    value: "PATH",
    help: "user name for Basic; some vendors put an API key here; - is stdin",
  },
  "password-file": { value: "PATH", help: "password for Basic; - is stdin" },
  "bearer-token-file": { value: "PATH", help: "fixed token that is never refreshed; - is stdin" },
  "secret-file": {
    value: "NAME=PATH",
    help: "what tokens are minted from, by the name in the provider's file; - is stdin",
    many: true,
  },
  "client-credentials": { help: "the OAuth client mints its own tokens; nothing else is given" },
  "expires-in": { value: "DURATION", help: "validity left of the access token, key or password" },
  "expires-at": { value: "TIME", help: "the same as a point in time" },
};

const KINDS: readonly (readonly string[])[] = [
  ["credential-file"],
  ["access-token-file", "refresh-token-file"],
  ["api-key-file"],
  ["username-file", "password-file"],
  ["bearer-token-file"],
  ["secret-file"],
  ["client-credentials"],
];

/** Undefined when none is given. INVALID_REQUEST when the options are of several kinds or stdin is wanted twice. */
export async function readCredential({ options, clock, readSecret }: Invocation): Promise<Init | undefined> {
  const kinds = KINDS.filter((names) => names.some((name) => options.has(name)));
  const [kind, other] = kinds;
  if (other !== undefined) {
    throw invalid(
      `--${other[0]}`,
      `give one kind of credential; --${kind?.find((name) => options.has(name))} is another`,
    );
  }
  const plain = async (name: string) => (await readSecret(name))?.reveal() ?? "";
  const expiry = expiryOf();
  switch (kind?.[0]) {
    case "credential-file":
      if (expiry.expireTime !== undefined)
        throw invalid("--credential-file", "say when it expires in the file");
      return fromFile(await readSecret("credential-file"));
    case "access-token-file": {
      const accessToken = await plain("access-token-file");
      const refreshToken = await plain("refresh-token-file");
      const oauth = { accessToken, refreshToken, scopes: [...options.texts("scope")], ...expiry };
      return { kind: { case: "oauth", value: oauth } };
    }
    case "api-key-file":
      return { kind: { case: "apiKey", value: { apiKey: await plain("api-key-file") } }, ...expiry };
    case "username-file": {
      const value = { username: await plain("username-file"), password: await plain("password-file") };
      return { kind: { case: "basic", value }, ...expiry };
    }
    case "bearer-token-file":
      return { kind: { case: "bearer", value: { token: await plain("bearer-token-file") } }, ...expiry };
    case "secret-file":
      return {
        kind: { case: "secrets", value: { values: await readSecretsByName({ options, readSecret }) } },
      };
    case "client-credentials":
      return { kind: { case: "clientCredentials", value: {} } };
    default:
      if (expiry.expireTime !== undefined) throw invalid("--expires-in", "needs a credential to speak of");
      return undefined;
  }

  function expiryOf() {
    const inMs = options.duration("expires-in");
    const atMs = options.time("expires-at");
    if (inMs !== undefined && atMs !== undefined)
      throw invalid("--expires-at", "--expires-in says it already");
    const ms = atMs ?? (inMs === undefined ? undefined : clock.now() + inMs);
    return ms === undefined ? {} : { expireTime: timestampFromMs(ms) };
  }
}

/** Secrets by their names, from the files of `--secret-file`. */
export async function readSecretsByName({
  options,
  readSecret,
}: Pick<Invocation, "options" | "readSecret">): Promise<Record<string, string>> {
  const secrets: Record<string, string> = {};
  for (const [name, path] of Object.entries(options.pairs("secret-file")))
    secrets[name] = (await readSecret("secret-file", path))?.reveal() ?? "";
  return secrets;
}

/** Of each token by its name, from the files of `--token-file`. */
export async function readTokens({ options, readSecret }: Invocation): Promise<Record<string, Init>> {
  const tokens: Record<string, Init> = {};
  for (const [name, path] of Object.entries(options.pairs("token-file")))
    tokens[name] = fromFile(await readSecret("token-file", path), "--token-file");
  return tokens;
}

function fromFile(text: Secret | undefined, option = "--credential-file"): Init {
  try {
    return fromJsonString(CredentialSchema, text?.reveal() ?? "");
  } catch (error) {
    // The parsers' own words quote what they read, which is a secret.
    const where =
      error instanceof Error ? /cannot decode field ([\w.]+) from JSON/.exec(error.message)?.[1] : undefined;
    throw invalid(
      option,
      `${where === undefined ? "not the JSON of a credential" : `${where} is not as it should be`}; for example {"oauth":{"accessToken":"…","refreshToken":"…"}} or {"apiKey":{"apiKey":"…"}}`,
    );
  }
}
