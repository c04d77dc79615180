import type { Draft } from "./draft.ts";
import type { Known } from "./known.ts";
import { PERMIT_TTL_MS, SEND_WITHIN_MS } from "./limits.ts";
import { type Block, Blocks, type BudgetTake, capsOf, freeBlock, freePermit, Picks } from "./permits.ts";
import type { KeyOf } from "./records.ts";
import { type ClientKey, clientKeyText, type Snapshot } from "./snapshot.ts";
import type { World } from "./world.ts";

const FULL_FOR_MS = 500;

/** What the caps have room for: a place, and a send of a block that is taken now or has been. */
export interface Room {
  readonly permit: KeyOf<"permit"> | undefined;
  readonly take: BudgetTake | undefined;
  /** The block in hand that the send is of. */
  readonly block: Block | undefined;
}

/** The caps of token endpoints, as this process takes from them. */
export class Caps {
  readonly #world: Pick<World, "clock" | "random" | "vendors" | "defaultMaxConcurrent">;
  readonly #known: Known;
  readonly #blocks = new Blocks();
  readonly #picks: Picks;
  /** Rooms whose send may still be given back. */
  readonly #open = new Set<Room>();

  constructor(world: Pick<World, "clock" | "random" | "vendors" | "defaultMaxConcurrent">, known: Known) {
    this.#world = world;
    this.#known = known;
    this.#picks = new Picks(world.random);
  }

  /** How many requests this process alone may have on their way. */
  local(client: ClientKey): number {
    const own = this.#known.client(client)?.client?.caps.maxConcurrent;
    return (
      own ?? this.#world.vendors.rules(client.provider)?.maxConcurrent ?? this.#world.defaultMaxConcurrent
    );
  }

  /** How long to leave a client alone whose caps have no room, in milliseconds. */
  fullForMs(): number {
    return FULL_FOR_MS * (1 + this.#world.random());
  }

  /** Undefined while there is none. `letGo` of it when it is taken, or not to be had. */
  room(snapshot: Snapshot, isBulk: boolean): Room | undefined {
    const rules = this.#world.vendors.rules(snapshot.client.provider, snapshot.key.slot);
    const { maxConcurrent, budget } = capsOf(snapshot, rules);
    const permit = freePermit(snapshot, maxConcurrent, isBulk, this.#picks);
    if (permit === "none") return undefined;
    if (budget === undefined) return { permit, take: undefined, block: undefined };
    const block = this.#blocks.use(clientKeyText(snapshot.client), this.#world.clock.boot());
    if (block !== undefined) {
      const room = { permit, take: undefined, block };
      this.#open.add(room);
      return room;
    }
    const take = freeBlock(snapshot, budget, isBulk, this.#picks);
    if (take !== "none") return { permit, take, block };
    this.#picks.letGo(permit);
    return undefined;
  }

  /** Whatever became of it; when it was not taken, its send is there for the next one. */
  letGo(room: Room): void {
    this.#picks.letGo(room.permit);
    this.#picks.letGo(room.take?.at);
    if (this.#open.delete(room) && room.block !== undefined) this.#blocks.giveBack(room.block);
  }

  /** It was taken, at this boot time: its send counts. What is left of a new block is for the next ones. */
  taken(client: ClientKey, room: Room, atBootMs: number): void {
    this.#open.delete(room);
    if (room.take === undefined) return;
    const rest = { requests: room.take.requests - 1, untilBootMs: atBootMs + SEND_WITHIN_MS };
    this.#blocks.keep(clientKeyText(client), rest);
  }
}

/** Takes it, for everybody, in the transaction that says what for. */
export function takeRoom(draft: Draft, { permit, take }: Room, attemptId: string, instance: string): void {
  if (permit !== undefined)
    draft.expect(permit, undefined).put(permit, { attemptId, instance }, PERMIT_TTL_MS);
  if (take !== undefined)
    draft.expect(take.at, undefined).put(take.at, { instance, requests: take.requests }, take.ttlMs);
}
