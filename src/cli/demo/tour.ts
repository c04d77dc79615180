import { KeyturnError } from "../../errors.ts";
import { AccountService, AccountStatus } from "../../gen/keyturn/v1/account_service_pb.js";
import { AuditService } from "../../gen/keyturn/v1/audit_service_pb.js";
import { CredentialService } from "../../gen/keyturn/v1/credential_service_pb.js";
import { type Event, EventService } from "../../gen/keyturn/v1/event_service_pb.js";
import { KeyService } from "../../gen/keyturn/v1/key_service_pb.js";
import { eventLine } from "./demo.ts";
import { createAccount, putClient, reconnect } from "./setting.ts";
import type { Stage } from "./stage.ts";

const CALLERS = 50;

/** The main promises, one after the other, each checked. INTERNAL_ERROR names the one that did not hold. */
export async function playTour(stage: Stage): Promise<void> {
  const { data, admin, say, vendor } = stage;
  const { getToken } = CredentialService.method;
  const accountId = "tour-account";
  await putClient(stage);
  const events = follow(stage);

  say("1. GetToken on an expired token: it is refreshed first.");
  await createAccount(stage, accountId, true);
  const first = await data.unary(getToken, { accountId });
  check(first.accessToken.startsWith("sim_at_"), "a token of the simulated provider");
  say(
    `   a ${first.tokenType} token of ${first.accessToken.length} characters, ready headers: ${Object.keys(first.headers).join(", ")}`,
  );

  say(`2. ${CALLERS} concurrent callers on another expired token.`);
  const before = vendor.tokenRequests();
  await createAccount(stage, "tour-herd", true);
  const herd = await Promise.all(
    Array.from({ length: CALLERS }, () => data.unary(getToken, { accountId: "tour-herd" })),
  );
  const asked = vendor.tokenRequests() - before;
  check(
    asked === 1 && new Set(herd.map((one) => one.accessToken)).size === 1,
    "one token request for all of them",
  );
  say(`   the provider counted ${asked} token request; every caller has the same token`);

  say("3. The customer removes the app; the vendor answers 401, and the app says so.");
  vendor.revoke(accountId);
  const refused = await data
    .unary(getToken, { accountId, rejectedRevision: first.revision })
    .catch((error: unknown) => error);
  check(refused instanceof Error, "GetToken refuses");
  say(`   ${refused instanceof Error && "details" in refused ? String(refused.details) : ""}`);
  await events.until("integrated_account:authentication_error");

  say("4. The customer connects again.");
  await reconnect(stage, accountId);
  await events.until("integrated_account:reactivated");
  await data.unary(getToken, { accountId });

  say("5. What an operator sees: no secret.");
  const { accounts } = await admin.unary(AccountService.method.listAccounts, {});
  for (const { id, provider, status, slots } of accounts) {
    say(`   ${id}  ${provider}  ${AccountStatus[status]}  token ${slots[0]?.hint ?? ""}`);
  }
  check(
    accounts.length === 2 && accounts.every(({ status }) => status === AccountStatus.ACTIVE),
    "two active accounts",
  );

  say("6. The key-encryption key is rotated, and every data key wrapped anew.");
  const { version } = await admin.unary(KeyService.method.rotateKek, {});
  let rewrapped = { done: 0n, verified: 0n };
  for await (const progress of admin.stream(KeyService.method.rewrapKeys, {})) rewrapped = progress;
  const { versions } = await admin.unary(KeyService.method.getKekStatus, {});
  check(
    versions.every((one) => one.version === version || one.uses === 0n),
    "nothing left on an old version",
  );
  say(`   version ${version}; ${rewrapped.done} keys rewrapped, ${rewrapped.verified} opened as a sample`);
  check((await data.unary(getToken, { accountId })).accessToken !== "", "tokens are still served");

  say("7. The audit trail proves itself.");
  const audit = await admin.unary(AuditService.method.verifyAudit, {});
  check(audit.intact, audit.faults.join("; ") || "an intact chain");
  say(`   ${audit.records} records, chain intact`);
  say("");
  say("All of it held.");
}

function check(held: boolean, what: string): void {
  if (!held) throw new KeyturnError("INTERNAL_ERROR", `The tour expected: ${what}.`);
}

/** The event stream beside the tour: its lines are shown when the tour waits for one. */
function follow({ data, say }: Stage): { until(type: string): Promise<void> } {
  const seen: Event[] = [];
  let wake = Promise.withResolvers<void>();
  const read = async () => {
    for await (const { event } of data.stream(EventService.method.watchEvents, {})) {
      if (event !== undefined) seen.push(event);
      wake.resolve();
    }
  };
  // It ends with the tour's connection.
  read().catch(() => wake.resolve());
  return {
    until: async (type) => {
      for (let round = 0; round < 100; round += 1) {
        const event = seen.find((one) => one.type === type);
        if (event !== undefined) {
          say(eventLine(event));
          return;
        }
        wake = Promise.withResolvers();
        await wake.promise;
      }
      check(false, `the event ${type}`);
    },
  };
}
