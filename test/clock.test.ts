import { expect, it } from "vitest";
import { systemClock } from "../src/clock.ts";

it("sleeps longer than a timer can, without ending early, and can be woken", async () => {
  const stop = new AbortController();
  let isAwake = false;
  const sleep = systemClock()
    .sleep(60 * 86_400_000, stop.signal)
    .finally(() => {
      isAwake = true;
    });
  await systemClock().sleep(100);
  expect(isAwake).toBe(false);
  stop.abort(new Error("woken"));
  await expect(sleep).rejects.toThrow("woken");
});

it("does not sleep at all for no time", async () => {
  await systemClock().sleep(0);
  await systemClock().sleep(-1);
});

it("never ends a sleep before its time, by the boot clock", async () => {
  const clock = systemClock();
  for (let n = 0; n < 200; n += 1) {
    const untilMs = clock.boot() + n / 100;
    await clock.sleep(untilMs - clock.boot());
    expect(clock.boot()).toBeGreaterThanOrEqual(untilMs);
  }
});
