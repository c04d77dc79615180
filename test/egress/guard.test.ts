import { inspect } from "node:util";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { OutboundRequest } from "../../src/egress/egress.ts";
import { KeyturnError } from "../../src/errors.ts";
import { post, recordingDial, room, tcpServer } from "./servers.ts";

const PUBLIC = "93.184.216.34";

/** A room whose resolver answers from `answers` in turn (the last one for ever) and whose dialler only notes. */
function watched(...answers: (readonly string[])[]) {
  const asked: string[] = [];
  const dialled: string[] = [];
  const egress = room({
    resolve: async (host) => {
      asked.push(host);
      return answers[Math.min(asked.length, answers.length) - 1] ?? [];
    },
    dial: async (address, port) => {
      dialled.push(`${address}:${port}`);
      throw new Error("noted");
    },
  });
  return { egress, asked, dialled };
}

const vendor: Partial<OutboundRequest> = {
  allowedHosts: ["login.example.test", "*.my.example.test"],
  allowLoopback: false,
  headers: [["authorization", "Basic planted-secret"]],
  body: Buffer.from("refresh_token=planted-secret"),
};

async function refusal(work: Promise<unknown>): Promise<KeyturnError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof KeyturnError) return error;
  throw new Error("let through");
}

describe("the guard", () => {
  it.each([
    "evil.example/#",
    "evil.example/",
    "evil.example?",
    "evil.example\\",
    "evil.example\r\nhost: ",
    "evil.example\t",
    "user@evil.example/",
    "user:pass@evil.example:443/",
    "evil.example:443/",
    "acme.my.example.test/#",
    "acme.my.example.test@evil.example/",
    "2130706433/",
    "0x7f000001/",
    "0177.0.0.1/",
    "127.1/",
    "127.0.0.1/",
    "169.254.169.254/",
    "[::1]/",
    "[::ffff:127.0.0.1]/",
    "[::ffff:a9fe:a9fe]/",
    "evil。example/",
    "ｅvil.example/",
    "acme\u0000",
    "%61cme",
    " ",
    "",
    ".",
  ])("resolves and dials nothing when ${subdomain} is %j", async (subdomain) => {
    const { egress, asked, dialled } = watched([PUBLIC]);
    let consulted = false;
    const url = `https://${subdomain}.my.example.test/token`;
    const beforeFirstByte = (): boolean => {
      consulted = true;
      return true;
    };
    const error = await refusal(egress.request(post(url, { ...vendor, beforeFirstByte })));
    expect(error.reason).toBe("DESTINATION_NOT_ALLOWED");
    expect(error.metadata["cause"]).toMatch(/^[a-z_]+$/);
    expect([asked, dialled, consulted]).toEqual([[], [], false]);
    expect(inspect(error, { depth: null })).not.toContain("planted-secret");
  });

  it("resolves and dials nothing for a header that would inject another", async () => {
    const { egress, asked, dialled } = watched([PUBLIC]);
    const headers = [["x-shop", "a\r\nhost: evil.example"]] as const;
    const error = await refusal(egress.request(post("https://login.example.test/", { ...vendor, headers })));
    expect([error.reason, asked, dialled]).toEqual(["INVALID_REQUEST", [], []]);
  });

  it("dials the very address it has checked, once resolved", async () => {
    const { egress, asked, dialled } = watched([PUBLIC]);
    const result = await egress.request(post("https://login.example.test/token", vendor));
    expect(result).toEqual({ kind: "not_sent", cause: "connect_failed" });
    expect([asked, dialled]).toEqual([["login.example.test"], [`${PUBLIC}:443`]]);
  });

  it("is not fooled by a resolver that rebinds: one question a dial, the answer checked is the address dialled", async () => {
    const { egress, asked, dialled } = watched([PUBLIC], ["127.0.0.1"], ["169.254.169.254"]);
    await egress.request(post("https://login.example.test/token", vendor));
    expect([asked.length, dialled]).toEqual([1, [`${PUBLIC}:443`]]);
    for (const count of [2, 3]) {
      const error = await refusal(egress.request(post("https://login.example.test/token", vendor)));
      expect(error.metadata["cause"]).toBe("address_not_allowed");
      expect(asked.length).toBe(count);
    }
    expect(dialled).toEqual([`${PUBLIC}:443`]);
  });

  it.each([
    "127.0.0.1",
    "10.0.0.1",
    "169.254.169.254",
    "::1",
    "fd00:ec2::254",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "nonsense",
  ])("dials nothing when one of several addresses is %s", async (bad) => {
    for (const answer of [[bad], [PUBLIC, bad], [bad, PUBLIC]]) {
      const { egress, dialled } = watched(answer);
      const error = await refusal(egress.request(post("https://login.example.test/token", vendor)));
      expect([error.reason, error.metadata["cause"]]).toEqual([
        "DESTINATION_NOT_ALLOWED",
        "address_not_allowed",
      ]);
      expect(dialled).toEqual([]);
    }
  });

  it("dials private addresses only where the operator permits them", async () => {
    const { egress, dialled } = watched(["10.0.0.1"]);
    await refusal(egress.request(post("https://login.example.test/", vendor)));
    await egress.request(post("https://login.example.test/", { ...vendor, allowPrivate: true }));
    expect(dialled).toEqual(["10.0.0.1:443"]);
  });

  it("sends plain http nowhere but to loopback, whatever localhost resolves to", async () => {
    const { egress, dialled } = watched([PUBLIC]);
    const error = await refusal(egress.request(post("http://localhost/token")));
    expect([error.metadata["cause"], dialled]).toEqual(["address_not_allowed", []]);
  });

  it("never asks the resolver about an address", async () => {
    const { egress, asked, dialled } = watched([PUBLIC]);
    await egress.request(post("http://127.0.0.1:9/token"));
    expect([asked, dialled]).toEqual([[], ["127.0.0.1:9"]]);
  });

  it("does not reuse a connection of one permission for another", async () => {
    const server = await tcpServer((socket) =>
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
    );
    const { dial, dialled } = recordingDial(server.port);
    const egress = room({ dial });
    const r = post("http://localhost/", { fresh: false });
    await egress.request(r);
    await egress.request(r);
    await egress.request({ ...r, allowPrivate: true });
    expect(dialled.length).toBeGreaterThanOrEqual(2);
    expect(server.connections()).toBe(2);
  });

  it("never dials a host that is not allowed, whatever stands where the host should", async () => {
    const piece = fc.constantFrom(
      ..."@#?/\\:.%[]\r\n\t\0 ".split(""),
      "evil.example",
      "login.example.test",
      ".my.example.test",
      "acme",
      "127.0.0.1",
      "127.1",
      "0x7f",
      "[::1]",
      "::ffff:7f00:1",
      "xn--",
      "。",
      "ａ",
      "\u00ad",
      "https://",
      "443",
      "2130706433",
    );
    const host = fc.oneof(
      fc.array(piece, { maxLength: 8 }).map((parts) => parts.join("")),
      fc.string({ unit: "binary" }),
      fc.webAuthority({
        withUserInfo: true,
        withPort: true,
        withIPv4: true,
        withIPv6: true,
        withIPv4Extended: true,
      }),
    );
    const asked: string[] = [];
    const egress = room({
      resolve: async (name) => {
        asked.push(name);
        return [PUBLIC];
      },
      dial: async (address, port) => {
        asked.push(`${address}:${port}`);
        throw new Error("noted");
      },
    });
    const allowed = /^(login\.example\.test|[a-z0-9_][a-z0-9_.-]*\.my\.example\.test)$/;
    const property = fc.asyncProperty(
      host,
      fc.constantFrom("", ".my.example.test", "login.example.test"),
      async (text, suffix) => {
        asked.length = 0;
        const end = await egress
          .request(post(`https://${text}${suffix}/token`, vendor))
          .catch((error: unknown) => error);
        if (asked.length === 0) {
          expect(end).toMatchObject({ name: "KeyturnError", reason: "DESTINATION_NOT_ALLOWED" });
        } else {
          expect(asked).toEqual([expect.stringMatching(allowed), `${PUBLIC}:443`]);
        }
      },
    );
    await fc.assert(property, { numRuns: 2_000 });
  });
});
