import type { Reason } from "../errors.ts";
import { shellWord } from "./shell-word.ts";

/** The error's metadata, which fills a next step in so that it can be pasted. */
type Known = Readonly<Record<string, string>>;

const again = "Run the same command again; nothing was changed.";
const explain = (known: Known) => `keyturn accounts explain ${known.account_id ?? "ACCOUNT"}`;
const connect = (known: Known) =>
  `keyturn connect ${known.provider ?? "PROVIDER"} --account ${known.account_id ?? "ACCOUNT"}`;
/** Of a field of the account that is missing, unknown, or not as the provider's file has it. */
const accountField = (known: Known) =>
  known.field?.startsWith("fields.") === true
    ? `Give it as --field NAME=VALUE; which there are, and what they are: keyturn providers show ${known.provider ?? "PROVIDER"}`
    : undefined;
const missed = (known: Known) =>
  `Some events are gone. Read the state (keyturn accounts list), then what is left: keyturn events tail --after ${known.oldest_cursor ?? "CURSOR"}`;
const client = (known: Known) => `${known.provider ?? "PROVIDER"} ${known.client ?? "NAME"}`;

const UNREACHED = "Is kek.vault.address right, and Vault up? Valid tokens are served meanwhile.";
const LOGIN =
  "Vault refuses this sidecar's login: renew what kek.vault logs in with (token, secret id or role).";

/** By the cause of KEK_UNAVAILABLE. */
const KEK: Readonly<Record<string, string>> = {
  sealed: "Unseal Vault (vault operator unseal). Valid tokens are served meanwhile.",
  denied: "Give the sidecar's Vault role the policy deploy/vault/sidecar.hcl for this key.",
  key_missing: "There is no such key: check kek.vault.mount and kek.vault.key, or restore the key.",
  key_unfit: "The key has to be of type aes256-gcm96, not derived: name another one in kek.vault.key.",
  login_refused: LOGIN,
  login_unreadable: "The file that kek.vault logs in with cannot be read by the sidecar.",
  timeout: UNREACHED,
  unreachable: UNREACHED,
  tls: "Vault's certificate is not trusted: check kek.vault.ca_file and the name in kek.vault.address.",
};

// Exhaustive on purpose: whoever adds a Reason says here what to do about it.
const NEXT: Readonly<Record<Reason, (known: Known) => string>> = {
  ACCOUNT_NOT_FOUND: () => "See which there are: keyturn accounts list",
  PROVIDER_NOT_FOUND: () => "See which there are: keyturn providers list",
  CLIENT_NOT_FOUND: () => "See which there are: keyturn clients list",
  ACCOUNT_PENDING: (known) =>
    `The customer has not finished connecting. By hand: ${connect(known)}; with a credential: keyturn accounts put-credential ${known.account_id ?? "ACCOUNT"} --help`,
  ACCOUNT_DISABLED: (known) => `Undo it with: keyturn accounts enable ${known.account_id ?? "ACCOUNT"}`,
  REAUTHORIZATION_REQUIRED: (known) =>
    `Have the customer authorize again, by hand with: ${connect(known)}. Why: ${explain(known)}`,
  CLIENT_MISCONFIGURED: (known) =>
    `Give the OAuth client a working secret: keyturn clients put ${client(known)} --client-id ID --client-secret-file -`,
  CLIENT_ON_HOLD: (known) => `Lift the hold with: keyturn clients release ${client(known)}`,
  IDENTITY_MISMATCH: () =>
    "The customer chose another user at the provider; connect that one as its own account.",
  TOKEN_NOT_PORTABLE: () => "This token works only from where it was issued; use Proxy instead.",
  PROVIDER_UNAVAILABLE: (known) =>
    known.authorization === "continues"
      ? `The sidecar goes on by itself. How far it is: keyturn accounts get ${known.account_id ?? "ACCOUNT"}`
      : `Try again later. What happened so far: ${explain(known)}`,
  REFRESH_UNCERTAIN: (known) => `Wait: another sidecar may still hold the answer. Who: ${explain(known)}`,
  STORE_UNAVAILABLE: ({ cause }) =>
    cause?.startsWith("state_directory") === true
      ? "Give this sidecar a directory of its own with state_dir, or stop the one that holds it."
      : "The sidecar's log says what is wrong with the store; then run the command again.",
  KEK_UNAVAILABLE: ({ cause = "" }) => KEK[cause] ?? "The sidecar's log says what is wrong with its backend.",
  SHUTTING_DOWN: () => "Run the command again when the sidecar is back.",
  PROVIDER_RATE_LIMITED: (known) => `Wait. What is in use: keyturn clients usage ${client(known)}`,
  CALLER_RATE_LIMITED: () => "Wait, then ask less often.",
  SUBSCRIBER_TOO_SLOW: missed,
  BODY_TOO_LARGE: () => "Send less at once.",
  STORE_FULL: () => "Make room in the store, then run the command again.",
  STATE_DISK_FULL: () =>
    "Make room on the disk of the sidecar's state directory, then run the command again.",
  INVALID_REQUEST: (known) =>
    accountField(known) ?? "Mend what is named above and run the command again; --help shows examples.",
  AUTHORIZATION_STATE_INVALID: () => "Start the authorization again.",
  CALLER_NOT_ALLOWED: () =>
    "The caller token's policy does not name this; give another with --caller-token-file.",
  DESTINATION_NOT_ALLOWED: (known) => accountField(known) ?? "The provider's file does not allow this host.",
  AUTHORIZATION_DENIED: () => "The customer said no, or the provider refused; ask again.",
  CALLER_UNKNOWN: () => "Give a caller token that callers.file names, with --caller-token-file PATH.",
  CURSOR_EXPIRED: missed,
  REVISION_MISMATCH: () => `Somebody else changed it meanwhile. ${again}`,
  ACCOUNT_ALREADY_EXISTS: (known) =>
    `Look at it (keyturn accounts get ${known.account_id ?? "ACCOUNT"}), or choose another id.`,
  WAIT_TIMED_OUT: () => "The refresh goes on in the sidecar; ask again.",
  INTERNAL_ERROR: () => "The sidecar's log has the cause; please report it.",
  SEAL_INVALID: () =>
    "The stored value was altered or belongs elsewhere: keyturn audit verify; then connect the account again.",
  KEK_MISMATCH: () => "The value was sealed under a key that is not configured here: keyturn keys status",
};

/**
 * A sentence with a command to paste where there is one. `field`: of the first violation. Undefined for a reason this
 * version does not know.
 */
export function nextStepOf(reason: string, metadata: Known, field: string | undefined): string | undefined {
  if (!Object.hasOwn(NEXT, reason)) return undefined;
  const known = field === undefined ? metadata : { ...metadata, field };
  const words = Object.entries(known).map(([name, value]) => [name, shellWord(value)]);
  return NEXT[reason as Reason](Object.fromEntries(words));
}
