import { monitorEventLoopDelay } from "node:perf_hooks";

// Preloaded into a measured server (`node --import probe.ts …`): answers over the channel to its parent what can be
// seen only from inside. It does nothing until asked.

/** What the parent asks; `watch` measures the event loop from now on, `reset` starts its measurement again. */
export type Question = "usage" | "watch" | "reset" | "collect";

export interface Answer {
  /** User and system time of the whole process, worker threads included. */
  readonly cpuMicros: number;
  readonly rssBytes: number;
  readonly heapUsedBytes: number;
  /** Longest block of the main thread's event loop since `watch` or `reset`; 0 before. */
  readonly loopMaxMs: number;
  readonly loopP99Ms: number;
}

/** Timer ticks this far apart are no block; Node counts it into each sample. */
const RESOLUTION_MS = 1;

let loop: ReturnType<typeof monitorEventLoopDelay> | undefined;

function answer(question: Question): Answer {
  if (question === "watch") {
    loop ??= monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    loop.enable();
    loop.reset();
  }
  if (question === "reset") loop?.reset();
  // Only with --expose-gc.
  if (question === "collect") globalThis.gc?.();
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  const blocked = (ns: number) => Math.max(0, ns / 1e6 - RESOLUTION_MS);
  return {
    cpuMicros: user + system,
    rssBytes: rss,
    heapUsedBytes: heapUsed,
    loopMaxMs: loop === undefined ? 0 : blocked(loop.max),
    loopP99Ms: loop === undefined ? 0 : blocked(loop.percentile(99)),
  };
}

process.on("message", (question: Question) => process.send?.(answer(question)));
// The measured server ends when it wants to.
process.channel?.unref();
