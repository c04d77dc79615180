import { expect, it } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { Gates } from "../../src/tokens/gate.ts";

const CLIENT = { provider: "simulator", client: "main" };

it("a gate that was closed for some time opens by itself, every time", async () => {
  const gates = new Gates(systemClock());
  for (let n = 0; n < 200; n += 1) {
    gates.close(CLIENT, 1 + n / 100);
    const ticket = gates.queue(CLIENT, 1, "proactive");
    let isOpen = false;
    void ticket.entered.then(() => {
      isOpen = true;
    });
    await expect.poll(() => isOpen, { interval: 1 }).toBe(true);
    ticket.leave();
  }
});
