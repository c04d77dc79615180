import { hostname } from "node:os";
import { join } from "node:path";
import { type Audit, createAudit } from "./audit/audit.ts";
import { verifyAudit } from "./audit/verify.ts";
import { readCatalogue, shownProvider, textOf } from "./catalogue.ts";
import { type Clock, systemClock } from "./clock.ts";
import { loadCallers } from "./config/callers.ts";
import { egressProxy } from "./config/egress-proxy.ts";
import { defaultStateDir } from "./config/paths.ts";
import type { Config } from "./config/schema.ts";
import { assertHost, createEgress } from "./egress/egress.ts";
import { withGoneJournal } from "./gone-journal.ts";
import { hostGuard } from "./host-guard.ts";
import { type Housekeeping, keepHouse, knownHead, noticeCut } from "./housekeeping.ts";
import { openJournal } from "./journal/journal.ts";
import { openKek, requireMeant } from "./kek.ts";
import { checkKeyring } from "./keyring-check.ts";
import { addressesOf } from "./listener-addresses.ts";
import type { Log } from "./log.ts";
import { idMaker } from "./new-id.ts";
import { createConsents } from "./providers/consents.ts";
import { createForward } from "./providers/forward/forward.ts";
import { lintProvider } from "./providers/load.ts";
import { createVendors, type VendorsDeps } from "./providers/vendors.ts";
import { answerRenderer } from "./rpc/credential/answer.ts";
import { type RunningServers, startServers } from "./rpc/servers.ts";
import { createSealer, type KekAct } from "./seal/envelope.ts";
import { createProcessSeal } from "./seal/process-seal.ts";
import {
  checkEpoch,
  instanceOf,
  isRestored,
  openStateDir,
  placeOf,
  rememberStore,
  storeSeen,
} from "./state.ts";
import { type OpenStore, openStore } from "./stores.ts";
import { Heart } from "./tokens/heart.ts";
import { OwnJournalMark } from "./tokens/journal-mark.ts";
import { KekFloor } from "./tokens/kek-floor.ts";
import { Keys } from "./tokens/keys.ts";
import { Membership } from "./tokens/membership.ts";
import { RestoreWatch } from "./tokens/restore.ts";
import type { World } from "./tokens/world.ts";
import { uuidV7 } from "./uuid.ts";

/** What closing takes beyond the exchanges' own grace. */
const CLOSE_WITHIN_MS = 2_000;

export interface SidecarOptions {
  readonly config: Config;
  readonly env: NodeJS.ProcessEnv;
  readonly log: Log;
  /** Where the shipped provider files are. */
  readonly shippedProviders: string;
  /** The store was restored from a copy: refreshes of what may be spent wait until an operator accepts. */
  readonly afterRestore?: boolean;
  /** Ends a start that still waits for a neighbour: it rejects then, and nothing is left open. */
  readonly signal?: AbortSignal;
  /** Stands between the heart and its neighbours, for those who want to see it fail; as it is when absent. */
  readonly around?: (world: World) => World;
}

export interface Sidecar {
  readonly data: string;
  readonly admin: string;
  /** `host:port`; undefined without an HTTP listener. */
  readonly http: string | undefined;
  /** Where providers may send browsers; undefined without a callback listener. */
  readonly callback: string | undefined;
  readonly instance: string;
  /** Reads the provider files again, all or nothing; INVALID_REQUEST names every fault. */
  reload(): void;
  /** Returns the attempts whose outcome could not be saved in time. */
  stop(): Promise<readonly string[]>;
}

/** A whole sidecar: world, heart, doors. Rejects before anything is served when a part of it cannot be had. */
export async function startSidecar({
  config,
  env,
  log,
  shippedProviders,
  afterRestore = false,
  signal,
  around = (world) => world,
}: SidecarOptions): Promise<Sidecar> {
  const clock = systemClock();
  requireMeant(config);
  const stateDir = config.state_dir ?? defaultStateDir(env);
  openStateDir(stateDir);
  const readProviders = () => readCatalogue(shippedProviders, config, log);
  let catalogue = readProviders();
  const undo: (() => Promise<unknown>)[] = [];
  let endEarly = async () => {};
  try {
    let heart: Heart | undefined;
    let onSetBack = (_revision: number) => {};
    const store = await openStore({
      config,
      stateDir,
      clock,
      log,
      onGap: (why, revision) => {
        if (why === "set_back") onSetBack(revision);
        void heart?.forgetAll();
      },
      signal,
    });
    undo.push(() => store.close());
    const journal = await openJournal({ directory: join(stateDir, "journal") });
    undo.push(() => journal.close());
    checkEpoch(stateDir, store.epoch, (await journal.entries()).length, afterRestore);
    const instance = instanceOf(stateDir);
    const seen = storeSeen(stateDir);
    const remembered = await knownHead(store, instance);
    const audit = await createAudit({
      instance,
      clock,
      to:
        config.audit.to === "stdout"
          ? { stream: process.stdout, ...(remembered.head === undefined ? {} : { after: remembered.head }) }
          : { directory: join(stateDir, "audit") },
      everyOpen: config.audit.every_open,
      retentionDays: Math.max(1, Math.floor(config.audit.retention / 86_400_000)),
    });
    undo.push(() => audit.close());
    await noticeCut(audit, remembered.head, log);
    const { kek, close } = await openKek({ config, env, stateDir, store: store.store, journal, clock, log });
    undo.push(close);
    const sealer = createSealer({
      kek,
      environment: config.environment,
      clock,
      audit: (act) => audit.record(kekRecord(act)),
    });
    const egress = createEgress({ clock, proxy: egressProxy(config.egress.proxy) });
    undo.push(() => egress.close());
    const outside: VendorsDeps = {
      catalogue: () => catalogue,
      send: (request) => egress.request(request),
      now: () => clock.now(),
    };
    const vendors = createVendors(outside);
    const newId = idMaker();
    const restore = new RestoreWatch({ store: store.store, clock, newId, instance, report: log });
    onSetBack = (revision) => {
      const unwritten = (error: unknown) => log("store set back: the hold is not written yet", {}, error);
      void restore.notice(revision).catch(unwritten);
    };
    const unwatch = restore.follow(store.events);
    undo.push(async () => unwatch());
    const membership = await joinMembers(config, { ...store, store: restore.store }, instance, {
      stateDir,
      clock,
      newId,
      log,
    });
    const world = around({
      instance,
      clock,
      random: Math.random,
      newId,
      store: new KekFloor(restore.store, kek.id).store,
      events: store.events,
      sealer,
      journal,
      vendors,
      consents: createConsents(outside),
      vault: createProcessSeal(),
      render: answerRenderer(vendors),
      report: log,
      ...(membership === undefined ? {} : { isGone: (other: string) => membership.isGone(other) }),
      ...(config.cache.max_stale === undefined ? {} : { maxStaleMs: config.cache.max_stale }),
      isHeld: () => restore.isHeld,
      maxKnownAccounts: config.cache.max_accounts,
      defaultMaxConcurrent: config.refresh.max_concurrent,
    });
    if (config.kek.backend === "local") await checkKeyring(world, kek, store.session !== undefined);
    const beating = new Heart(world, membership);
    heart = beating;
    const keys = new Keys(world, kek, sealer);
    const servers = await startServers({
      world,
      heart: beating,
      keys,
      environment: config.environment,
      limits: config.limits,
      rules: config.callers.file === undefined ? [] : loadCallers(config.callers.file),
      addresses: addressesOf(config, env, stateDir),
      newAccountId: () => uuidV7(clock.now()),
      allowsHost: hostGuard(() => catalogue),
      opened: (account, caller, purpose) => {
        audit.warmOpen(account, caller, purpose);
        beating.rounds.noteUse(account);
      },
      forward: createForward({ catalogue: () => catalogue, outlet: egress, requireHost: assertHost, clock }),
      act: actRecorder(audit),
      restore,
      withGoneJournal: (directory, work) => withGoneJournal(directory, stateDir, work),
      callback: config.listeners.callback,
      returnUrls: config.connections.return_urls,
      providers: {
        list: () => catalogue.names.map((name) => shownProvider(catalogue, name)),
        text: (name) => textOf(catalogue, name),
        lint: (name, text) => lintProvider(text, `${name}.yaml`),
      },
      audit: {
        records: () => audit.query({}),
        verify: async () => {
          const { records, faults } = await verifyAudit(join(stateDir, "audit"), audit.head());
          return {
            records,
            faults: faults.map(({ segment, line, message }) => `${segment}:${line}: ${message}`),
          };
        },
      },
    });
    const mark = new OwnJournalMark(world, kek, hostname());
    const watching = new AbortController();
    undo.push(async () => watching.abort());
    let housekeeping: Housekeeping | undefined;
    endEarly = async () => {
      await beating.stop(0);
      await housekeeping?.stop();
      await servers.close(CLOSE_WITHIN_MS);
    };
    signal?.throwIfAborted();
    const giveUp = () => void beating.stop(0);
    signal?.addEventListener("abort", giveUp);
    const isOther = isRestored(seen, store.events.identity, remembered.revision);
    await restore.start({ known: seen.revision, isOther, afterRestore }, watching.signal);
    // From here on this disk remembers the store as it is now.
    let headRevision = remembered.revision;
    const remember = () =>
      rememberStore(stateDir, {
        revision: restore.highestRevision,
        identity: store.events.identity,
        headRevision,
      });
    undo.push(async () => remember());
    housekeeping = keepHouse({
      store,
      audit,
      instance,
      clock,
      newId,
      log,
      sweeps: () => membership?.isFirst ?? true,
      tellMark: () => mark.tell(),
      headTaken: (revision) => {
        headRevision = revision;
        remember();
      },
    });
    await beating.start();
    signal?.removeEventListener("abort", giveUp);
    signal?.throwIfAborted();
    const leaving = new AbortController();
    const membersKept = membership?.run(leaving.signal, (gained) => {
      log("shards moved", { gained: gained.length, owned: membership.shards.length });
      void beating.takeShards(gained);
    });
    undo.push(async () => {
      leaving.abort();
      await membersKept;
    });
    servers.setServing(true);
    log("ready", {
      instance,
      data: servers.data,
      admin: servers.admin,
      ...(servers.http === undefined ? {} : { http: servers.http }),
      ...(servers.callback === undefined ? {} : { callback: servers.callback }),
    });
    return {
      data: servers.data,
      admin: servers.admin,
      http: servers.http,
      callback: servers.callback,
      instance,
      reload: () => {
        catalogue = readProviders();
        beating.filesChanged();
        log("provider files read again", { count: catalogue.names.length });
      },
      stop: () =>
        stopSidecar({
          heart: beating,
          servers,
          housekeeping,
          mark,
          undo,
          graceMs: config.shutdown_grace,
          log,
        }),
    };
  } catch (error) {
    await endEarly().catch(() => undefined);
    for (const close of undo.reverse()) await close().catch(() => undefined);
    throw error;
  }
}

/** Among several sidecars: says that this one is there. Undefined where there is only one. */
async function joinMembers(
  { roles }: Config,
  { store, session }: OpenStore,
  instance: string,
  {
    stateDir,
    clock,
    newId,
    log,
  }: {
    readonly stateDir: string;
    readonly clock: Clock;
    readonly newId: () => string;
    readonly log: Log;
  },
): Promise<Membership | undefined> {
  if (session === undefined) return undefined;
  const host = hostname();
  const membership = new Membership({
    store,
    clock,
    session,
    instance,
    host,
    roles,
    place: placeOf(stateDir, host),
    newId,
    report: log,
  });
  await membership.join();
  return membership;
}

/** What a start would refuse of a configuration, before it touches anything. INVALID_REQUEST. */
export function checkConfig(config: Config, env: NodeJS.ProcessEnv, shippedProviders: string): void {
  requireMeant(config);
  addressesOf(config, env, config.state_dir ?? defaultStateDir(env));
  if (config.callers.file !== undefined) loadCallers(config.callers.file);
  egressProxy(config.egress.proxy);
  readCatalogue(shippedProviders, config, () => undefined);
}

function kekRecord({ operation, context, actor, kekId, kekVersion, outcome }: KekAct) {
  return {
    operation: `kek.${operation}`,
    outcome,
    caller: actor.caller,
    purpose: actor.purpose,
    tenant: context?.tenant ?? "",
    account: context?.id ?? "",
    kekId,
    ...(kekVersion === undefined ? {} : { kekVersion }),
  };
}

function actRecorder(audit: Audit) {
  return async (operation: string, caller: string, account: string) => {
    await audit.record({ operation, caller, account, outcome: "begun" });
    return (outcome: string, detail: Readonly<Record<string, string>>, found = account) =>
      audit.record({ operation, caller, account: found, outcome, detail });
  };
}

async function stopSidecar(parts: {
  readonly heart: Heart;
  readonly servers: RunningServers;
  readonly housekeeping: Housekeeping;
  readonly mark: OwnJournalMark;
  readonly undo: readonly (() => Promise<unknown>)[];
  readonly graceMs: number;
  readonly log: Log;
}): Promise<readonly string[]> {
  const { heart, servers, housekeeping, mark, undo, graceMs, log } = parts;
  servers.setServing(false);
  servers.endStreams();
  const left = await heart.stop(graceMs);
  for (const attempt of left)
    log("attempt left open: its outcome is settled at the next start", { attempt_id: attempt });
  await housekeeping.stop();
  await mark.withdraw().catch((error: unknown) => log("journal's mark not withdrawn", {}, error));
  await servers.close(CLOSE_WITHIN_MS);
  for (const close of undo.toReversed())
    await close().catch((error: unknown) => log("not closed cleanly", {}, error));
  return left;
}
