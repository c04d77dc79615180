import { onTestFinished } from "vitest";
import {
  type EmbeddedOptions,
  type EmbeddedStore,
  openEmbeddedStore,
} from "../../src/store/embedded/open.ts";
import { GATE } from "../../src/store/embedded/protocol.ts";
import { ManualClock } from "./manual-clock.ts";

/** Closed when the test ends, if not before. */
export async function storeIn(
  directory: string,
  options: Partial<EmbeddedOptions> = {},
): Promise<EmbeddedStore> {
  const opened = await openEmbeddedStore({
    directory,
    environment: "test",
    clock: new ManualClock(),
    ...options,
  });
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= opened.close();
    return closed;
  };
  onTestFinished(close);
  return { ...opened, close };
}

/** Stops the store's worker around its commits. */
export function commitGate() {
  const gate = new SharedArrayBuffer(4);
  const state = new Int32Array(gate);
  const set = (to: keyof typeof GATE) => {
    Atomics.store(state, 0, GATE[to]);
    Atomics.notify(state, 0);
  };
  onTestFinished(() => set("open"));
  return { gate, set };
}
