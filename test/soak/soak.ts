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
import { type Caller, causeOf, reasonOf } from "../e2e/harness.ts";
import { check, type Verdict } from "./checker.ts";
import { Member } from "./fleet.ts";
import type { Caps, Histories, LastAnswer, Word } from "./histories.ts";
import { StoreHistory } from "./store-history.ts";
import { faultsMet, makeTrouble, providerFaults } from "./trouble.ts";

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
  /** An account's last, when all trouble was over. */
  readonly lastAnswers: readonly LastAnswer[];
  /** How often each kind of trouble came, as `KINDS_OF_TROUBLE` names them. */
  readonly troubles: Readonly<Record<string, number>>;
}

const ROOMY: Caps = { maxConcurrent: 12, budget: { requests: 160, perMs: 10_000 } };
/** By OAuth client: the first has less budget, the second fewer places, than their accounts ask for. */
export const CAPS: readonly Caps[] = [
  { maxConcurrent: 3, budget: { requests: 8, perMs: 10_000 } },
  { ...ROOMY, maxConcurrent: 2 },
  ROOMY,
  ROOMY,
];
/** A provider takes a moment, so that requests overlap. */
const LATENCY_MS = 50;
const ENVIRONMENT = "soak";
const TRIES = 20;
/** How long whoever is not served after the last trouble asks again: the machine may be busy with something else. */
const LAST_LOOK_MS = 30_000;
/** What passes within seconds of the last trouble. */
const PASSING = /^STORE_|^KEK_|^14 UNAVAILABLE|^4 DEADLINE|^WAIT_TIMED_OUT|RATE_LIMITED/;
const SERVED = "served";
const { getToken } = CredentialService.method;

/** Many sidecars, few accounts, short tokens, and trouble everywhere; then the histories are read. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-soak-"));
  const clients = CAPS.map((_, n) => ({ clientId: clientOf(n), clientSecret: `secret-${n}` }));
  const [etcd, bao, simulator] = await Promise.all([
    startEtcd(),
    startOpenBao(),
    startSimulator({
      clock: systemClock(),
      clients,
      accessTokenLifetimeMs: options.lifetimeMs,
      latencyMs: LATENCY_MS,
    }),
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
    const { answers, disturbances } = await run(options, { members, etcd, simulator });
    simulator.faults.clear();
    const lastAnswers = await askAll(members, options);
    await Promise.all(members.map((member) => member.kill()));
    await store.end();
    const words = members.flatMap(wordsOf);
    const histories: Histories = {
      rows: store.rows,
      sends: words
        .flatMap((word) => ("send" in word ? [word.send] : []))
        .toSorted((one, other) => one.atMs - other.atMs),
      conclusions: words.flatMap((word) => ("conclusion" in word ? [word.conclusion] : [])),
      requests: simulator.history(),
      caps: new Map(CAPS.map((caps, n) => [clientOf(n), caps])),
      lastAnswers,
    };
    const { tokenRequests, redeemed, redeemedButDropped, reuseSeen } = simulator.stats();
    const figures = {
      tokenRequests,
      redeemed,
      redeemedButDropped,
      reuseSeen,
      storeRows: store.rows.length,
    };
    const troubles = { ...disturbances, ...faultsMet(histories.requests) };
    return { ...check(histories), figures, answers, lastAnswers, troubles };
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
    for (const [n, { maxConcurrent, budget }] of CAPS.entries()) {
      await untilDone(() =>
        admin.call(OAuthClientService.method.putClient, {
          provider: "simulator",
          name: clientOf(n),
          clientId: clientOf(n),
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
/** Of the client or the account with this number: accounts are dealt out in turn. */
const clientOf = (n: number) => `app-${n % CAPS.length}`;

async function connect(admin: Caller, simulator: Simulator, n: number): Promise<void> {
  const client = clientOf(n);
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

/** Callers and trouble, side by side. Returns how often callers heard what, and what there was of trouble. */
async function run(
  options: SoakOptions,
  parts: { readonly members: readonly Member[]; readonly etcd: Etcd; readonly simulator: Simulator },
) {
  const { runMs, accounts, callsPerSecond, freezeMs, random, say = () => undefined } = options;
  const over = AbortSignal.timeout(runMs);
  const answers: Record<string, number> = {};
  const ask = async (data: Caller, id: string) => {
    const call = data.call(getToken, { accountId: id }, { deadlineMs: 5_000 });
    const answer = await call.then(() => SERVED, shortly);
    answers[answer] = (answers[answer] ?? 0) + 1;
  };
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
  const trouble = makeTrouble({ ...parts, random, freezeMs, signal: over, say });
  const [disturbances] = await Promise.all([trouble, callers()]);
  await Promise.all(calls);
  return { answers, disturbances };
}

/** What each account's caller hears once all is quiet. */
async function askAll(members: readonly Member[], { accounts }: SoakOptions): Promise<readonly LastAnswer[]> {
  const untilMs = Date.now() + LAST_LOOK_MS;
  const ask = async (n: number): Promise<LastAnswer> => {
    const data = members[n % members.length]?.data;
    // Where there is less budget than demand, some wait whenever they are asked.
    const isScarce = n % CAPS.length === 0;
    for (;;) {
      const call = data?.call(getToken, { accountId: accountId(n) }, { deadlineMs: 5_000 });
      const answer = (await call?.then(() => SERVED, withCause)) ?? "its sidecar is away";
      const mayPass = PASSING.test(answer) && !(isScarce && /DEADLINE_EXCEEDED|budget/.test(answer));
      if (!mayPass || Date.now() > untilMs) return { accountId: accountId(n), clientId: clientOf(n), answer };
      await delay(200);
    }
  };
  return Promise.all(Array.from({ length: accounts }, (_, n) => ask(n)));
}

function withCause(error: unknown): string {
  return [shortly(error), causeOf(error) ?? []].flat().join("/");
}

function wordsOf({ wordsFile }: Member): readonly Word[] {
  if (!existsSync(wordsFile)) return [];
  return readFileSync(wordsFile, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Word);
}

/** Our reason, or what the transport says. */
function shortly(error: unknown): string {
  const reason = reasonOf(error);
  return /^[A-Z_]+$/.test(reason) ? reason : (/\d+ [A-Z_]+/.exec(reason)?.[0] ?? "unknown");
}
