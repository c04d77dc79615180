import type { Point } from "./machine.ts";

/** `strict`: a refresh token works once, and a second use ends the grant. `grace`: it works a while longer. */
export type Style = "strict" | "grace" | "none";

export interface ProviderShape {
  readonly name: string;
  readonly style: Style;
  readonly lifetimeMs: number;
  /** The answer names no refresh token where it has not changed. */
  readonly omits: boolean;
  readonly maxConcurrent: number | undefined;
  readonly budget: { readonly requests: number; readonly perMs: number } | undefined;
  readonly earliestBeforeExpiryMs: number | undefined;
}

export interface Shape {
  readonly sidecars: number;
  readonly providers: readonly ProviderShape[];
  /** Token slots; with `pairs` every second one is the other slot of the account before. */
  readonly accounts: number;
  readonly pairs: boolean;
  readonly horizonMs: number;
  /** Every sidecar schedules every account, each its own share, or none does: then only callers cause refreshes. */
  readonly schedulers: "all" | "shared" | "none";
  /** After the faults: callers ask, or only the schedule works. */
  readonly finale: "demand" | "schedule";
}

export const VENDOR_MODES = [
  "unreachable",
  "reset_before",
  "reset_after",
  "slow",
  "late",
  "deaf",
  "tardy",
  "twice",
  "malformed",
  "unmapped",
  "error_500",
  "error_503",
  "error_429",
  "error_429_bare",
  "invalid_client",
  "invalid_scope",
  "outage",
] as const;
export type VendorMode = (typeof VENDOR_MODES)[number];

export const STORE_MODES = ["refused", "unheard", "unasked", "ghost", "slow"] as const;
export type StoreMode = (typeof STORE_MODES)[number];

type Blow =
  | { readonly kind: "crash"; readonly diskLost: boolean; readonly downMs: number }
  | { readonly kind: "stop"; readonly limitMs: number; readonly downMs: number }
  | { readonly kind: "pause"; readonly forMs: number }
  | { readonly kind: "partition"; readonly forMs: number };

/** What befalls one sidecar at once. */
export type { Blow };

export type Action =
  | {
      readonly kind: "ask";
      readonly sidecar: number;
      readonly account: number;
      readonly callers: number;
      readonly waitMs: number;
      readonly minValidityMs: number;
      readonly rejects: boolean;
      /** How often a caller who was refused asks again, each time another sidecar. */
      readonly tries: number;
    }
  | { readonly kind: "refresh"; readonly sidecar: number; readonly account: number; readonly bulk: boolean }
  | { readonly kind: "reauthorise"; readonly sidecar: number; readonly account: number }
  | { readonly kind: "disable" | "enable"; readonly sidecar: number; readonly account: number }
  | {
      readonly kind: "delete";
      readonly sidecar: number;
      readonly account: number;
      readonly revoke: boolean;
      /** The same id is created anew this much later; undefined: never. */
      readonly againMs: number | undefined;
    }
  | { readonly kind: "label" | "rewrap" | "lock_lost"; readonly sidecar: number; readonly account: number }
  /** Labels and data keys are rewritten again and again. */
  | { readonly kind: "storm"; readonly sidecar: number; readonly account: number; readonly edits: number }
  | { readonly kind: "new_secret"; readonly sidecar: number; readonly provider: number }
  | { readonly kind: "hold"; readonly sidecar: number; readonly provider: number; readonly forMs: number }
  | { readonly kind: "blow"; readonly sidecar: number; readonly blow: Blow }
  | {
      readonly kind: "trap";
      readonly sidecar: number;
      readonly point: Point;
      readonly skip: number;
      readonly blow: Blow;
    }
  | {
      readonly kind: "store_trouble";
      /** Undefined: all of them. */
      readonly sidecar: number | undefined;
      readonly mode: StoreMode;
      readonly share: number;
      readonly forMs: number;
    }
  | {
      readonly kind: "vendor_trouble";
      readonly provider: number;
      readonly mode: VendorMode;
      readonly share: number;
      readonly forMs: number;
    }
  | { readonly kind: "kek_down"; readonly sidecar: number | undefined; readonly forMs: number }
  | { readonly kind: "disk_full"; readonly sidecar: number; readonly forMs: number }
  | { readonly kind: "clock_jump"; readonly sidecar: number; readonly byMs: number };

export type Step = Action & { readonly atMs: number };

/** All that a run depends on. Steps can be left out one by one, and the rest stays as it is. */
export interface Plan {
  readonly seed: string;
  readonly shape: Shape;
  readonly steps: readonly Step[];
}

/** Nothing goes wrong and nobody changes anything: every caller is served. */
export function isCalm(plan: Plan): boolean {
  return plan.steps.every((step) => step.kind === "ask" && !step.rejects);
}
