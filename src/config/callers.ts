import { readFileSync } from "node:fs";
import { parse } from "yaml";
import * as z from "zod";
import { KeyturnError, whyUnread } from "../errors.ts";

const globs = z.array(z.string().min(1)).min(1).default(["*"]);

const callersSchema = z.strictObject({
  version: z.literal(1, "must be 1"),
  callers: z.array(
    z.strictObject({
      /** Appears in the audit trail. */
      name: z
        .string()
        .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "1 to 63 letters, digits, dots, dashes, underscores"),
      /** SHA-256 (hex) of each token that is accepted; two while one replaces the other. */
      token_sha256: z
        .array(z.string().regex(/^[0-9a-f]{64}$/, "64 lower-case hex digits"))
        .min(1)
        .max(2),
      /** `CredentialService/GetToken`, `CredentialService/*`, `*`. */
      rpcs: z.array(z.string().min(1)).min(1),
      tenants: globs,
      providers: globs,
      accounts: globs,
      /** Calls a second, of which a second's worth may come at once. Default: `limits.requests_per_second`. */
      requests_per_second: z.int().min(1).optional(),
      /** Of HTTP requests that are made or let through as an account: `GET`. */
      methods: globs,
      /** Their paths: below the provider's base URL for the proxy, of the whole request for Envoy. */
      paths: globs,
    }),
  ),
});

/** What each caller token may do. Lists are globs in which `*` stands for any text. */
export type CallerRule = z.output<typeof callersSchema>["callers"][number];

/** INVALID_REQUEST names what is wrong, by its path; never a token, since the file holds only hashes. */
export function loadCallers(path: string): readonly CallerRule[] {
  let tree: unknown;
  try {
    tree = parse(readFileSync(path, "utf8"), { maxAliasCount: 0 });
  } catch (error) {
    // A foreign error's words may quote the file; it holds hashes only, but who knows what was put there.
    const isUnread = error instanceof Error && "syscall" in error;
    const description = isUnread ? `${whyUnread(error)}: ${path}` : `${path} cannot be read as YAML`;
    throw new KeyturnError("INVALID_REQUEST", `callers.file: ${description}`, {
      violations: [{ field: "callers.file", description }],
      cause: error,
    });
  }
  const parsed = callersSchema.safeParse(tree);
  if (parsed.success) return parsed.data.callers;
  const violations = parsed.error.issues.map(({ path: at, message }) => ({
    field: at.join("."),
    description: message,
  }));
  const list = violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
  throw new KeyturnError("INVALID_REQUEST", `${path}: ${list}`, { violations });
}
