import { KeyturnError, withMetadata } from "../errors.ts";
import { type Account, DEFAULT_SLOT } from "./account.ts";
import {
  breakerOf,
  isProbing,
  keepOthersOff,
  recordSuccess,
  recordThrottled,
  recordTransient,
} from "./breaker.ts";
import { type Caps, type Room, takeRoom } from "./caps.ts";
import { recordClientFault, unmade } from "./client-fault.ts";
import { about } from "./connection-faults.ts";
import { requireClient, requireUsable } from "./connection-subjects.ts";
import { coolingDown } from "./decide.ts";
import { Draft } from "./draft.ts";
import type { Exchanges } from "./exchanges.ts";
import type { Gates, Ticket } from "./gate.ts";
import type { Known } from "./known.ts";
import { SEND_WITHIN_MS, STORE_PATIENCE_MS } from "./limits.ts";
import { openClient } from "./opening.ts";
import { patiently } from "./patience.ts";
import { type KeyOf, key } from "./records.ts";
import type { Actor } from "./sealing.ts";
import { settle } from "./settle.ts";
import { capsReads, clientKeyOf, type Snapshot, snapshotOf, snapshotReads } from "./snapshot.ts";
import type { Read, View } from "./store.ts";
import type { ContextClient, Failure } from "./vendor.ts";
import type { World } from "./world.ts";

/** Somebody sits before a browser, and a code may live for a minute: who has no turn by then is told so. */
const PATIENCE_MS = 10_000;

/** What has to happen in the same transaction as the taking of a place, or not at all. */
export interface Alongside {
  readonly reads: readonly Read[];
  add(draft: Draft): void;
  /** Throws when it cannot happen any more. */
  check(view: View): void;
  /** It has happened; `view`: `reads`, as they stand after it. */
  done(view: View): void;
}

/** Who asks for a place. */
export interface Applicant {
  readonly account: Account;
  readonly attemptId: string;
  readonly actor: Actor;
  /** Boot clock. */
  readonly untilBootMs: number;
}

/** A place at a client's token endpoint; `leave` gives it back. */
export interface Admitted {
  readonly account: Account;
  readonly attemptId: string;
  /** Undefined for an account without an OAuth client. */
  readonly client: ContextClient | undefined;
  /** Boot clock: no first byte leaves after it. */
  readonly sendUntilMs: number;
  readonly probe: boolean;
  readonly permit: KeyOf<"permit"> | undefined;
  readonly ticket: Ticket;
}

/** How an exchange ended, as far as its client is concerned. `withdrawn`: nothing was sent, by our own choice. */
export type Ending = { readonly kind: "granted" | "withdrawn" } | Failure;

/**
 * The way to a client's token endpoint for what is no refresh of an account: exchanges of codes, and the first token of a
 * customer's secret. They obey the same hold, fault, cool-down and caps, and their outcomes count for the client.
 */
export class Admission {
  readonly #world: World;
  readonly #known: Known;
  readonly #gates: Gates;
  readonly #caps: Caps;
  readonly #exchanges: Exchanges;

  constructor(world: World, known: Known, gates: Gates, caps: Caps, exchanges: Exchanges) {
    this.#world = world;
    this.#known = known;
    this.#gates = gates;
    this.#caps = caps;
    this.#exchanges = exchanges;
  }

  /**
   * Takes a place when there is one, with whatever is `alongside`; `prepare` is called before, with room in sight, as
   * often as that takes. CLIENT_ON_HOLD, CLIENT_MISCONFIGURED, PROVIDER_UNAVAILABLE and PROVIDER_RATE_LIMITED at once
   * while nobody asks this client's endpoint, the latter also when the caps leave no room in time, and SHUTTING_DOWN:
   * nothing has happened then.
   */
  async enter(
    applicant: Applicant,
    prepare: () => Promise<void> = async () => undefined,
    alongside: Alongside = NOTHING,
  ): Promise<Admitted> {
    const { account } = applicant;
    const client = clientKeyOf(account);
    const untilMs = Math.min(applicant.untilBootMs, this.#world.clock.boot() + PATIENCE_MS);
    for (;;) {
      const ticket = this.#gates.queue(client, this.#caps.local(client), "consent");
      try {
        await this.#turn(ticket, account, untilMs);
        const admitted = await this.#once(applicant, ticket, prepare, alongside);
        if (admitted !== undefined) return admitted;
      } catch (error) {
        ticket.leave();
        throw error;
      }
      ticket.leave();
    }
  }

  async #turn({ entered }: Ticket, account: Account, untilMs: number): Promise<void> {
    const { clock } = this.#world;
    const { stopping } = this.#exchanges;
    const here = new AbortController();
    const signal = AbortSignal.any([here.signal, stopping]);
    const late = clock.sleep(Math.max(0, untilMs - clock.boot()), signal).then(
      () => {
        throw noRoom(account);
      },
      () => undefined,
    );
    try {
      await Promise.race([entered, late]);
      stopping.throwIfAborted();
    } finally {
      here.abort();
    }
  }

  /** Undefined: somebody else was there first, or there is no room now. */
  async #once(
    { account, attemptId, actor }: Applicant,
    ticket: Ticket,
    prepare: () => Promise<void>,
    alongside: Alongside,
  ): Promise<Admitted | undefined> {
    const { store, clock, instance, newId, sealer } = this.#world;
    const reads = [...readsOf(account), ...capsReads(clientKeyOf(account)), ...alongside.reads];
    const view = await store.read(reads);
    alongside.check(view);
    const snapshot = this.#learnt(account, view);
    const { oauthClient, clientSecrets, cooldown } = snapshot;
    requireClient(account, oauthClient?.value);
    if (oauthClient !== undefined) requireUsable(oauthClient.value);
    const key = { accountId: account.id, slot: DEFAULT_SLOT };
    if (cooldown !== undefined)
      throw withMetadata(coolingDown({ key }, account, cooldown.value, clock.now()), about(account));
    const room = this.#caps.room(snapshot, false);
    if (room === undefined) {
      this.#gates.close(snapshot.client, this.#caps.fullForMs());
      return undefined;
    }
    try {
      const client =
        oauthClient && (await openClient(sealer, oauthClient.value, clientSecrets?.value, actor));
      await prepare();
      const takenAtMs = clock.boot();
      const probe = isProbing(breakerOf(snapshot));
      const draft = takingDraft(snapshot, room, probe, { attemptId, instance, nowMs: clock.now() });
      alongside.add(draft);
      // What is taken from here on is sent, or given back before the store goes.
      this.#exchanges.stopping.throwIfAborted();
      const result = await settle(this.#world, draft.done(newId(), reads), takenAtMs + STORE_PATIENCE_MS);
      if (!result.applied) return undefined;
      this.#caps.taken(snapshot.client, room, takenAtMs);
      alongside.done(result.view);
      const sendUntilMs = Math.min(
        takenAtMs + SEND_WITHIN_MS,
        room.block?.untilBootMs ?? Number.POSITIVE_INFINITY,
      );
      return { account, attemptId, client, sendUntilMs, probe, permit: room.permit, ticket };
    } finally {
      this.#caps.letGo(room);
    }
  }

  /** Does `work` in this place, which is left with what it has come to, or with what its error counts as. */
  async within<T>(admitted: Admitted, work: () => Promise<T>, endingOf: (done: T) => Ending): Promise<T> {
    let done: T;
    try {
      done = await work();
    } catch (error) {
      await this.leave(admitted, brokenOff(error));
      throw error;
    }
    await this.leave(admitted, endingOf(done));
    return done;
  }

  /** Gives the place back, and writes down what the exchange says of the client, however long the store is away. */
  leave(admitted: Admitted, ending: Ending): Promise<void> {
    admitted.ticket.leave();
    return patiently(this.#world.clock, this.#exchanges.gone, () => this.#leave(admitted, ending));
  }

  async #leave(admitted: Admitted, ending: Ending): Promise<void> {
    const { account } = admitted;
    const { clock, newId, store } = this.#world;
    const reads = [...readsOf(account), ...(admitted.permit === undefined ? [] : [admitted.permit])];
    for (let snapshot = this.#learnt(account, await store.read(reads)); ; ) {
      const draft = leavingDraft(snapshot, admitted, ending, clock.now());
      if (draft.isEmpty) return;
      const result = await settle(this.#world, draft.done(newId(), reads), clock.boot() + STORE_PATIENCE_MS);
      snapshot = this.#learnt(account, result.view);
      if (result.applied) return;
    }
  }

  #learnt(account: Account, view: View): Snapshot {
    const snapshot = snapshotOf(slotOf(account), clientKeyOf(account), view);
    this.#known.learn(snapshot);
    return snapshot;
  }
}

/** What an exchange counts as that an error of ours has ended. */
export function brokenOff(error: unknown): Ending {
  return error instanceof KeyturnError ? unmade(error) : { kind: "withdrawn" };
}

const NOTHING: Alongside = {
  reads: [],
  add: () => undefined,
  check: () => undefined,
  done: () => undefined,
};

function slotOf(account: Account) {
  return { accountId: account.id, slot: DEFAULT_SLOT };
}

function readsOf(account: Account): readonly Read[] {
  return snapshotReads(slotOf(account), clientKeyOf(account));
}

function takingDraft(
  snapshot: Snapshot,
  room: Room,
  probe: boolean,
  at: { readonly attemptId: string; readonly instance: string; readonly nowMs: number },
): Draft {
  const { client, oauthClient, cooldown } = snapshot;
  const draft = new Draft()
    .expect(key("cooldown", client.provider, client.client), cooldown)
    .expect(key("client", client.provider, client.client), oauthClient);
  takeRoom(draft, room, at.attemptId, at.instance);
  if (!probe) return draft;
  keepOthersOff(draft, snapshot, at.nowMs);
  return draft;
}

/** A customer's refusal, or a code's, is no verdict on anybody's tokens: it counts for nothing here. */
function leavingDraft(snapshot: Snapshot, admitted: Admitted, ending: Ending, nowMs: number): Draft {
  const draft = new Draft();
  const { attemptId, probe, client } = admitted;
  const permit = snapshot.permits.find((entry) => entry.value.attemptId === attemptId);
  if (permit !== undefined) draft.expect(permit.key, permit).remove(permit);
  switch (ending.kind) {
    case "granted":
      recordSuccess(draft, snapshot, probe, nowMs);
      break;
    case "unknown":
    case "not_sent":
      recordTransient(draft, snapshot, nowMs);
      break;
    case "refused": {
      const { class: why, retryAfterMs, rateLimit, clientFault, code } = ending;
      if (why === "rate_limited") recordThrottled(draft, snapshot, retryAfterMs, rateLimit, nowMs);
      if (why === "transient") recordTransient(draft, snapshot, nowMs);
      if (clientFault) recordClientFault(draft, snapshot, client?.record.generation ?? 0, code, nowMs);
      break;
    }
    default:
      break;
  }
  return draft;
}

function noRoom(account: Account): KeyturnError {
  return new KeyturnError("PROVIDER_RATE_LIMITED", "The token endpoint's caps leave no room yet.", {
    metadata: { ...about(account), cause: "budget" },
    retryAfterMs: 1_000,
  });
}
