import { describeStore } from "../contracts/store.ts";
import { MemoryStore } from "../fakes/memory-store.ts";

describeStore("memory", async (clock) => {
  const memory = new MemoryStore(clock);
  return { ...memory.client(), sweep: async () => memory.sweepNow(), close: async () => undefined };
});
