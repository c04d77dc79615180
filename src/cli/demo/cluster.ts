import { KeyturnError } from "../../errors.ts";
import { CredentialService } from "../../gen/keyturn/v1/credential_service_pb.js";
import type { Connection } from "../connection.ts";
import { createAccount, putClient } from "./setting.ts";
import type { Stage } from "./stage.ts";

const CALLERS = 50;
const ACCOUNTS = 12;
const SHARDS = 256;
/** A sidecar that comes gets its shards from those that had them, a look at the members later. */
const STILL_FOR_MS = 4_000;
const LOOK_EVERY_MS = 250;
const PATIENCE_MS = 30_000;

/** One sidecar of the demo, in a process of its own. */
export interface FleetMember {
  readonly name: string;
  readonly pid: number;
  readonly data: Connection;
  readonly admin: Connection;
  /** How many of the 256 slices of the accounts it refreshes ahead, as it has last said. */
  shards(): number;
  /** SIGKILL. */
  kill(): void;
  close(): void;
}

/** Sidecars over one store, as the demo sees them. */
export interface Fleet {
  readonly members: readonly FleetMember[];
  readonly vendor: Stage["vendor"];
  readonly say: (line: string) => void;
  readonly sleep: (ms: number) => Promise<void>;
  /** Never goes back. */
  readonly nowMs: () => number;
}

/** One refresh for all, and what happens when one of them dies. INTERNAL_ERROR names what did not hold. */
export async function playCluster(fleet: Fleet): Promise<void> {
  const { members, say, vendor } = fleet;
  const [first] = members;
  if (first === undefined) return;
  const { getToken } = CredentialService.method;
  const stage = { ...first, vendor };
  say("");
  say(`1. ${members.length} sidecars over one etcd, their KEK in Vault's Transit engine:`);
  for (const { name, pid } of members) say(`   ${name}: process ${pid}`);

  const isSpread = (some: readonly FleetMember[]) =>
    total(some) === SHARDS && some.every((member) => member.shards() > 0);
  let last = "";
  let stillSinceMs = 0;
  const standsStill = () => {
    if (owners(members) !== last) stillSinceMs = fleet.nowMs();
    last = owners(members);
    return fleet.nowMs() - stillSinceMs >= STILL_FOR_MS;
  };
  await until(fleet, "every sidecar owns its part of the shards", () => standsStill() && isSpread(members));
  say(`2. The accounts' ${SHARDS} shards are spread over them: ${owners(members)}.`);

  await putClient(stage);
  const before = vendor.tokenRequests();
  await createAccount(stage, "shared", true);
  const tokens = await Promise.all(
    members.flatMap(({ data }) =>
      Array.from({ length: CALLERS }, () => data.unary(getToken, { accountId: "shared" })),
    ),
  );
  const asked = vendor.tokenRequests() - before;
  const different = new Set(tokens.map(({ accessToken }) => accessToken)).size;
  check(asked === 1 && different === 1, "one token request for all callers");
  say(`3. ${tokens.length} callers of all three wanted one expired token at once.`);
  say(`   The provider counted ${asked} token request; every caller has the same token.`);

  for (let n = 0; n < ACCOUNTS; n += 1) await createAccount(stage, `customer-${n}`, false);
  const victim = members.at(-1);
  const alive = members.slice(0, -1);
  if (victim === undefined) return;
  const killedAtMs = fleet.nowMs();
  victim.kill();
  say(`4. ${victim.name} is killed with SIGKILL; it owned ${victim.shards()} shards.`);
  await until(fleet, "its shards have moved", () => total(alive) === SHARDS);
  const seconds = ((fleet.nowMs() - killedAtMs) / 1_000).toFixed(1);
  say(`   After ${seconds} s they are the others': ${owners(alive)}.`);

  const refreshed = vendor.tokenRequests();
  await until(fleet, "all accounts refreshed ahead", () => vendor.tokenRequests() >= refreshed + ACCOUNTS);
  say(`5. Tokens live 15 s here, and all accounts' have been refreshed ahead of their end without it.`);
  say("");
  say("All of it held.");
}

function total(members: readonly FleetMember[]): number {
  return members.reduce((sum, member) => sum + member.shards(), 0);
}

function owners(members: readonly FleetMember[]): string {
  return members.map((member) => `${member.name} has ${member.shards()}`).join(", ");
}

async function until(fleet: Fleet, what: string, holds: () => boolean): Promise<void> {
  const untilMs = fleet.nowMs() + PATIENCE_MS;
  while (!holds()) {
    check(fleet.nowMs() < untilMs, what);
    await fleet.sleep(LOOK_EVERY_MS);
  }
}

function check(held: boolean, what: string): void {
  if (!held) throw new KeyturnError("INTERNAL_ERROR", `The demo expected: ${what}.`);
}
