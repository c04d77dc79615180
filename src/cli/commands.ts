import type { Command } from "./command.ts";
import { accountActCommands } from "./commands/accounts-act.ts";
import { accountsBulkRefresh } from "./commands/accounts-bulk-refresh.ts";
import { accountsImport } from "./commands/accounts-import.ts";
import { accountReadCommands } from "./commands/accounts-read.ts";
import { accountWriteCommands } from "./commands/accounts-write.ts";
import { auditCommands } from "./commands/audit.ts";
import { clientCommands } from "./commands/clients.ts";
import { connectCommands } from "./commands/connect.ts";
import { eventCommands } from "./commands/events.ts";
import { explain } from "./commands/explain.ts";
import { journalCommands } from "./commands/journal.ts";
import { keyCommands } from "./commands/keys.ts";
import { localCommands } from "./commands/local.ts";
import { providerCommands } from "./commands/providers.ts";
import { token } from "./commands/token.ts";

/** Every command there is, in the order of the help. */
export const commands: readonly Command[] = [
  ...localCommands,
  token,
  ...connectCommands,
  explain,
  ...accountReadCommands,
  ...accountWriteCommands,
  accountsImport,
  accountsBulkRefresh,
  ...accountActCommands,
  ...clientCommands,
  ...eventCommands,
  ...providerCommands,
  ...keyCommands,
  ...journalCommands,
  ...auditCommands,
];
