import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Event, EventService } from "../../gen/keyturn/v1/event_service_pb.js";
import { createAccount, putClient } from "./setting.ts";
import type { Stage } from "./stage.ts";

const ACCOUNT = "demo-account";

/** Sets the stage, says what can be tried, and then tells what happens until it is stopped. */
export async function playDemo(stage: Stage): Promise<void> {
  const { say, program, sockets, http, vendor } = stage;
  await putClient(stage);
  await createAccount(stage, ACCOUNT, true);
  say("");
  say(`A sidecar is running, with a simulated provider at ${vendor.url} and the account ${ACCOUNT}.`);
  say(
    "The provider's access tokens live 60 s, so you will see one refreshed ahead of its expiry within a minute.",
  );
  say("");
  say("Try in another terminal, in the same directory:");
  say(`  ${program} token ${ACCOUNT} --socket ${sockets.data} --show-token`);
  say(`  ${program} accounts explain ${ACCOUNT} --socket ${sockets.admin}`);
  say(`  ${program} accounts list --socket ${sockets.admin}`);
  say(
    `  grpcurl -plaintext -d '{"account_id":"${ACCOUNT}"}' unix://${sockets.data} keyturn.v1.CredentialService/GetToken`,
  );
  say(
    `  curl -s -H 'connect-protocol-version: 1' --json '{"account_id":"${ACCOUNT}"}' http://${http}/keyturn.v1.CredentialService/GetToken`,
  );
  say(`  curl -s ${vendor.url}/__stats`);
  say(
    `  curl -s -X POST ${vendor.url}/__revoke -d '{"subject":"${ACCOUNT}"}'   # the next refresh finds out: ask again in a minute`,
  );
  say("");
  say("What happens, as it happens (Ctrl-C ends it):");
  for await (const { event } of stage.data.stream(EventService.method.watchEvents, { afterCursor: "" })) {
    if (event !== undefined) say(eventLine(event));
  }
}

/** One event on one line. */
export function eventLine(event: Event): string {
  const at = event.time === undefined ? "" : new Date(timestampMs(event.time)).toISOString().slice(11, 19);
  const about = event.accountId === "" ? `${event.provider}/${event.client}` : event.accountId;
  const { detail } = event;
  const until =
    detail.case === "token" && detail.value.expireTime !== undefined
      ? `valid until ${new Date(timestampMs(detail.value.expireTime)).toISOString().slice(11, 19)}`
      : "";
  const code = detail.case === "failure" ? detail.value.providerCode || detail.value.cause : "";
  return `  ${at}  ${event.type}  ${[about, event.reason, code, until].filter((part) => part !== "").join("  ")}`;
}
