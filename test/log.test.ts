import { expect, it } from "vitest";
import { KeyturnError } from "../src/errors.ts";
import { createLog } from "../src/log.ts";

function logged(...what: Parameters<ReturnType<typeof createLog>>): Record<string, unknown> {
  let written = "";
  createLog(
    (line) => {
      written += line;
    },
    () => 0,
  )(...what);
  expect(written.match(/\n/g)).toHaveLength(1);
  return JSON.parse(written);
}

it("is one line of JSON, a warning when something failed", () => {
  const line = logged("ready", { instance: "a\nb" });
  expect(line).toEqual({
    time: "1970-01-01T00:00:00.000Z",
    level: "info",
    message: "ready",
    instance: "a\nb",
  });
  const cause = new KeyturnError("KEK_UNAVAILABLE", "Vault is sealed.", { metadata: { cause: "sealed" } });
  expect(logged("housekeeping failed", {}, cause)).toMatchObject({
    level: "warn",
    cause: { reason: "KEK_UNAVAILABLE", message: "Vault is sealed.", cause: "sealed" },
  });
});

it("has a foreign error's code, never its words", () => {
  const foreign = Object.assign(new Error("token sim_rt_PLANTED refused"), { code: "ECONNREFUSED" });
  expect(logged("the connection broke", {}, foreign)).toMatchObject({
    cause: { name: "Error", code: "ECONNREFUSED" },
  });
  expect(JSON.stringify(logged("x", {}, foreign))).not.toContain("PLANTED");
  const strange = Object.assign(new Error("x"), { code: "token sim_rt_PLANTED" });
  expect(JSON.stringify(logged("x", {}, strange))).not.toContain("PLANTED");
});
