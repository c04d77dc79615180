import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../src/clock.ts";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { type Simulator, startSimulator } from "../../src/simulator/simulator.ts";
import { type Etcd, startEtcd } from "../backends/etcd.ts";
import { type OpenBao, startOpenBao } from "../backends/openbao.ts";
import { type Caller, reasonOf } from "../e2e/harness.ts";
import { check, type Verdict } from "./checker.ts";
import { Member } from "./fleet.ts";
import type { Caps, Histories, Send } from "./histories.ts";
import { StoreHistory } from "./store-history.ts";
import { makeTrouble, providerFaults } from "./trouble.ts";

export interface SoakOptions {
  readonly runMs: number;
  readonly sidecars: number;
  readonly accounts: number;
  readonly lifetimeMs: number;
  /** Calls of GetToken a second, over all sidecars. */
  readonly callsPerSecond: number;
  /** The longest that a sidecar is frozen. */
  readonly freezeMs: number;
  /** How often the provider misbehaves; 1 is seldom. */
  readonly faults: number;
  /** Whose turn it is, in [0, 1). */
  readonly random: () => number;
  /** Without it, nothing is missing. */
  readonly mutant?: string;
  readonly say?: (what: string) => void;
}

export interface SoakResult extends Verdict {
  readonly figures: Readonly<Record<string, number>>;
  /** What callers heard: `served`, or a reason, and how often. */
  readonly answers: Readonly<Record<string, number>>;
  /** The same, of one call an account when all trouble was over. */
  readonly answersAtTheEnd: Readonly<Record<string, number>>;
}

const CLIENTS = 4;
const CAPS: Caps = { maxConcurrent: 12, budget: { requests: 160, perMs: 10_000 } };
const ENVIRONMENT = "soak";
const TRIES = 20;
/** From the last trouble to the last look. */
const QUIET_MS = 2_000;
const { getToken } = CredentialService.method;

/** Many sidecars, few accounts, short tokens, and trouble everywhere; then the histories are read. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-soak-"));
  const clients = Array.from({ length: CLIENTS }, (_, n) => ({
    clientId: `app-${n}`,
    clientSecret: `secret-${n}`,
  }));
  const [etcd, bao, simulator] = await Promise.all([
    startEtcd(),
    startOpenBao(),
    startSimulator({ clock: systemClock(), clients, accessTokenLifetimeMs: options.lifetimeMs }),
  ]);
  const store = new StoreHistory(etcd, ENVIRONMENT);
  const config = await configOf(etcd, bao);
  const members = Array.from(
    { length: options.sidecars },
    (_, n) => new Member(folder, `s${n}`, config, options.mutant ?? ""),
  );
  try {
    const [first, ...others] = members;
    if (first === undefined) throw new Error("no sidecar");
    await first.start();
    // Two at a time: a start is mostly computing.
    const lane = async (from: number) => {
      for (let n = from; n < others.length; n += 2) await others[n]?.start();
    };
    await Promise.all([lane(0), lane(1)]);
    await connectAll(first, simulator, options);
    simulator.faults.add(...providerFaults(options.faults));
    const answers = await run(options, { members, etcd, simulator });
    simulator.faults.clear();
    const atTheEnd = await lastAnswers(members, options);
    await Promise.all(members.map((member) => member.kill()));
    await store.end();
    const histories: Histories = {
      rows: store.rows,
      sends: members.flatMap(sendsOf).toSorted((one, other) => one.atMs - other.atMs),
      requests: simulator.history(),
      caps: new Map(clients.map(({ clientId }) => [clientId, CAPS])),
    };
    const { tokenRequests, redeemed, redeemedButDropped, reuseSeen } = simulator.stats();
    const figures = {
      tokenRequests,
      redeemed,
      redeemedButDropped,
      reuseSeen,
      storeRows: store.rows.length,
    };
    return { ...check(histories), figures, answers: answers.counts, answersAtTheEnd: atTheEnd.counts };
  } finally {
    await Promise.all(members.map((member) => member.kill()));
    await Promise.all([etcd.stop(), bao.stop(), simulator.close()]);
    rmSync(folder, { recursive: true, force: true });
  }
}

async function configOf(etcd: Etcd, bao: OpenBao): Promise<string> {
  await bao.act("POST", "transit/keys/keyturn", { type: "aes256-gcm96" });
  const policy = join(import.meta.dirname, "../../deploy/vault/sidecar.hcl");
  await bao.policy("sidecar", readFileSync(policy, "utf8"));
  const token = await bao.token({ policies: ["sidecar"], ttl: "1h" });
  return [
    `environment: ${ENVIRONMENT}`,
    `store: { backend: etcd, endpoints: ["${etcd.only.url}"] }`,
    `kek: { backend: vault-transit, vault: { address: "${bao.url}", token: ${token} } }`,
  ].join("\n");
}

async function connectAll(member: Member, simulator: Simulator, { accounts }: SoakOptions): Promise<void> {
  const admin = member.admin();
  try {
    for (let n = 0; n < CLIENTS; n += 1) {
      const { maxConcurrent, budget } = CAPS;
      await untilDone(() =>
        admin.call(OAuthClientService.method.putClient, {
          provider: "simulator",
          name: `app-${n}`,
          clientId: `app-${n}`,
          clientSecret: `secret-${n}`,
          caps: {
            maxConcurrent,
            budget: { requests: budget.requests, per: { seconds: BigInt(budget.perMs / 1_000), nanos: 0 } },
          },
        }),
      );
    }
    const lane = async (from: number) => {
      for (let n = from; n < accounts; n += 8) await connect(admin, simulator, n);
    };
    await Promise.all(Array.from({ length: 8 }, (_, from) => lane(from)));
  } finally {
    admin.close();
  }
}

const accountId = (n: number) => `acct-${n}`;

async function connect(admin: Caller, simulator: Simulator, n: number): Promise<void> {
  const client = `app-${n % CLIENTS}`;
  const grant = simulator.issueGrant({ clientId: client, subject: accountId(n) });
  const { accessToken, refreshToken, expiresAtMs } = grant;
  const expireTime = {
    seconds: BigInt(Math.floor(expiresAtMs / 1_000)),
    nanos: (expiresAtMs % 1_000) * 1_000_000,
  };
  await untilDone(() =>
    admin.call(AccountService.method.createAccount, {
      accountId: accountId(n),
      tenant: "soak",
      provider: "simulator",
      client,
      fields: { port: String(simulator.port) },
      credential: { kind: { case: "oauth", value: { accessToken, refreshToken, expireTime } } },
    }),
  );
}

/** On a machine that is busy with something else, a call may take longer than it may. */
async function untilDone(act: () => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await act();
      return;
    } catch (error) {
      if (tries === TRIES || reasonOf(error) !== "STORE_UNAVAILABLE") throw error;
      await delay(tries * 100);
    }
  }
}

/** Callers and trouble, side by side. Returns what callers heard. */
async function run(
  options: SoakOptions,
  parts: { readonly members: readonly Member[]; readonly etcd: Etcd; readonly simulator: Simulator },
): Promise<Answers> {
  const { runMs, accounts, callsPerSecond, freezeMs, random, say = () => undefined } = options;
  const over = AbortSignal.timeout(runMs);
  const answers = new Answers();
  const ask = (data: Caller, id: string) =>
    answers.of(data.call(getToken, { accountId: id }, { deadlineMs: 5_000 }));
  const calls: Promise<void>[] = [];
  const callers = async () => {
    while (!over.aborted) {
      const id = accountId(Math.floor(random() * accounts));
      // Half of the calls come from everywhere at once: that is where sidecars meet.
      const isHerd = random() < 0.5;
      const live = parts.members.flatMap(({ data }) => data ?? []);
      const one = live[Math.floor(random() * live.length)];
      const asked = isHerd ? live : one === undefined ? [] : [one];
      calls.push(...asked.map((data) => ask(data, id)));
      await delay((asked.length * 1_000) / callsPerSecond, undefined, { signal: over }).catch(
        () => undefined,
      );
    }
  };
  await Promise.all([callers(), makeTrouble({ ...parts, random, freezeMs, signal: over, say })]);
  await Promise.all(calls);
  return answers;
}

/** What each account's caller hears once all is quiet; some wait for a hold, a back-off or their customer. */
async function lastAnswers(members: readonly Member[], { accounts }: SoakOptions): Promise<Answers> {
  await delay(QUIET_MS);
  const answers = new Answers();
  const ask = async (n: number) => {
    const data = members[n % members.length]?.data;
    if (data !== undefined)
      await answers.of(data.call(getToken, { accountId: accountId(n) }, { deadlineMs: 10_000 }));
  };
  await Promise.all(Array.from({ length: accounts }, (_, n) => ask(n)));
  return answers;
}

/** How often which answer was heard: `served`, a reason of ours, or what the transport says. */
class Answers {
  readonly counts: Record<string, number> = {};

  async of(call: Promise<unknown>): Promise<void> {
    const answer = await call.then(() => "served", shortly);
    this.counts[answer] = (this.counts[answer] ?? 0) + 1;
  }
}

function sendsOf({ sendsFile }: Member): readonly Send[] {
  if (!existsSync(sendsFile)) return [];
  return readFileSync(sendsFile, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Send);
}

/** Our reason, or what the transport says. */
function shortly(error: unknown): string {
  const reason = reasonOf(error);
  return /^[A-Z_]+$/.test(reason) ? reason : (/\d+ [A-Z_]+/.exec(reason)?.[0] ?? "unknown");
}
