import { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { dialFirst, interleave, tcpDial } from "../../src/egress/dial.ts";
import { systemResolve } from "../../src/egress/resolve.ts";
import { tcpServer } from "./servers.ts";

const NEVER = new AbortController().signal;

describe("interleave", () => {
  it("takes the families in turn, the first one first, and at most eight", () => {
    expect(interleave(["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"])).toEqual([
      "::1",
      "1.1.1.1",
      "::2",
      "2.2.2.2",
      "::3",
    ]);
    expect(interleave(["1.1.1.1", "::1", "::2"])).toEqual(["1.1.1.1", "::1", "::2"]);
    expect(interleave(Array.from({ length: 9 }, (_, i) => `1.1.1.${i}`))).toHaveLength(8);
    expect(interleave([])).toEqual([]);
  });
});

describe("dialFirst", () => {
  it("goes on to the next address at once when one refuses", async () => {
    const good = new Socket();
    const dialled: string[] = [];
    const started = performance.now();
    const socket = await dialFirst(
      async (address) => {
        dialled.push(address);
        if (address === "1.1.1.1") throw new Error("refused");
        return good;
      },
      ["1.1.1.1", "2.2.2.2", "3.3.3.3"],
      443,
      NEVER,
    );
    expect(socket).toBe(good);
    expect(dialled).toEqual(["1.1.1.1", "2.2.2.2"]);
    expect(performance.now() - started).toBeLessThan(200);
  });

  it("tries the next address beside a silent one after a quarter second, and gives the loser up", async () => {
    const good = new Socket();
    let abandoned = false;
    const socket = await dialFirst(
      (address, _port, signal) => {
        if (address === "2.2.2.2") return Promise.resolve(good);
        return new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            abandoned = true;
            reject(new Error("aborted"));
          });
        });
      },
      ["1.1.1.1", "2.2.2.2"],
      443,
      NEVER,
    );
    expect([socket === good, abandoned]).toEqual([true, true]);
  });

  it("destroys a connection that comes after another has won", async () => {
    const late = new Socket();
    await dialFirst(
      (address) => (address === "1.1.1.1" ? delay(300, late) : Promise.resolve(new Socket())),
      ["1.1.1.1", "2.2.2.2"],
      443,
      NEVER,
    );
    await delay(100);
    expect(late.destroyed).toBe(true);
  });

  it("destroys a connection that comes after it was given up", async () => {
    const late = new Socket();
    const limit = new AbortController();
    const dialling = dialFirst(() => delay(50, late), ["1.1.1.1"], 443, limit.signal);
    limit.abort();
    await expect(dialling).rejects.toThrow();
    await delay(80);
    expect(late.destroyed).toBe(true);
  });

  it("fails with the last failure when every address fails", async () => {
    const failing = dialFirst(
      async (address) => Promise.reject(new Error(address)),
      ["1.1.1.1", "2.2.2.2"],
      443,
      NEVER,
    );
    await expect(failing).rejects.toThrow("2.2.2.2");
  });
});

describe("tcpDial", () => {
  it("connects, and stops when told", async () => {
    const server = await tcpServer(() => {});
    (await tcpDial("127.0.0.1", server.port, NEVER)).destroy();
    await expect(tcpDial("127.0.0.1", server.port, AbortSignal.abort())).rejects.toThrow();
  });
});

describe("systemResolve", () => {
  it("answers names under localhost itself, and asks the machine for others", async () => {
    const resolve = systemResolve();
    expect(await resolve("idp.localhost")).toEqual(["127.0.0.1", "::1"]);
    expect(await resolve("localhost")).toEqual(["127.0.0.1", "::1"]);
    await expect(resolve("no-such-name.invalid")).rejects.toThrow();
  });

  it("asks for a name once at a time, and anew for the next", async () => {
    const resolve = systemResolve();
    const first = resolve("no-such-name.invalid");
    expect(resolve("no-such-name.invalid")).toBe(first);
    await first.catch(() => {});
    const next = resolve("no-such-name.invalid");
    expect(next).not.toBe(first);
    await next.catch(() => {});
  });
});
