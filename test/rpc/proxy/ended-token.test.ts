import type { ServerResponse } from "node:http";
import { describe, expect, it } from "vitest";
import { reasonOf } from "../../e2e/harness.ts";
import { type Seen, valuesOf } from "../authz/vendor.ts";
import { keep, type Stage, stage, streamed } from "./stage.ts";

/** From now on the API takes no token that was ever seen before this moment. */
function rejects(at: Stage, old: string, status = 401): void {
  at.api.answer = (response: ServerResponse, seen: Seen) => {
    const ended = valuesOf(seen, "authorization")[0] === `Bearer ${old}`;
    response.writeHead(ended ? status : 200, { "content-type": "application/json" });
    response.end(JSON.stringify({ ended }));
  };
}

const textOf = (body: Uint8Array) => Buffer.from(body).toString();

describe("a token that the provider says has ended", () => {
  it("is refreshed, and the call made once more with all that it had", async () => {
    await using at = await stage();
    const { accessToken } = await at.have("acme");
    rejects(at, accessToken);
    const body = Buffer.from("the body");
    const answer = await at.proxy({
      method: "POST",
      path: "/a",
      headers: [{ name: "x-a", value: "1" }],
      body,
    });
    expect([answer.status, textOf(answer.body)]).toEqual([200, '{"ended":false}']);
    const [first, second, ...more] = at.api.seen;
    expect(more).toEqual([]);
    const shape = (seen = first) =>
      seen && [
        seen.method,
        seen.url,
        seen.body.toString(),
        valuesOf(seen, "x-a"),
        valuesOf(seen, "content-length"),
      ];
    expect(shape(second)).toEqual(shape(first));
    expect(at.simulator.stats().tokenRequests).toBe(1);
  });

  it("is refreshed once for a hundred calls that meet it together", async () => {
    await using at = await stage();
    const { accessToken } = await at.have("acme");
    rejects(at, accessToken);
    const answers = await Promise.all(Array.from({ length: 100 }, () => at.proxy()));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(at.simulator.stats().tokenRequests).toBe(1);
  });

  it("is not refreshed again while fresh ones are refused too: the provider's answer comes back", async () => {
    await using at = await stage();
    await at.have("acme");
    at.api.answer = (response) => response.writeHead(401, { "www-authenticate": "Bearer" }).end("no");
    for (let i = 0; i < 3; i += 1) {
      const answer = await at.proxy();
      expect([answer.status, textOf(answer.body)]).toEqual([401, "no"]);
    }
    expect(at.simulator.stats().tokenRequests).toBe(1);
    expect(at.api.seen.length).toBe(4);
  });

  it("is told by the file's own words, in an answer of 200 too, and by nothing else then", async () => {
    await using at = await stage();
    await at.have("acme", { provider: "says-so" });
    const said = (body: string, type = "application/json") => {
      at.api.answer = (response) => response.writeHead(200, { "content-type": type }).end(body);
    };
    said('{"ok":false,"error":"token_expired"}', "text/plain");
    await at.proxy();
    said('{"ok":false,"error":"not_in_channel"}');
    await at.proxy();
    said(`{"ok":false,"error":"token_expired","pad":"${"x".repeat(70_000)}"}`);
    await at.proxy();
    at.api.answer = (response) =>
      response.writeHead(401, { "content-type": "application/json" }).end('{"ok":1}');
    await at.proxy();
    expect(at.simulator.stats().tokenRequests).toBe(0);
    said('{"ok":false,"error":"token_expired"}');
    await streamed(at.data, {});
    expect(at.simulator.stats().tokenRequests).toBe(1);
    expect(at.api.seen.length).toBe(6);
  });

  it.each([429, 500, 502, 503, 504])(
    "is not what %i means: the answer is passed on, nothing sent twice",
    async (status) => {
      await using at = await stage();
      await at.have("acme", { provider: "says-so" });
      at.api.answer = (response) => {
        response.writeHead(status, { "content-type": "application/json", "retry-after": "7" });
        response.end('{"ok":false,"error":"token_expired"}');
      };
      expect((await at.proxy()).status).toBe(status);
      expect((await streamed(at.data, { method: "POST" }, [Buffer.from("x")])).head.status).toBe(status);
      expect(at.api.seen.length).toBe(2);
      expect(at.simulator.stats().tokenRequests).toBe(0);
    },
  );

  it("is verified where it cannot be refreshed, and the account flagged when it is refused there too", async () => {
    await using at = await stage();
    await keep(at, "keyed", "keys", "the-key", { app_key: "the-app" });
    at.api.answer = (response) => response.writeHead(401).end();
    expect(await at.proxy({ accountId: "keyed", path: "/x" }).catch(reasonOf)).toBe(
      "REAUTHORIZATION_REQUIRED",
    );
    expect(at.api.seen.map(({ url }) => url)).toEqual([
      "/x?tenant=acme&app_key=the-app",
      "/me?app_key=the-app",
    ]);
    expect(await at.proxy({ accountId: "keyed" }).catch(reasonOf)).toBe("REAUTHORIZATION_REQUIRED");
    expect(at.api.seen.length).toBe(2);
  });

  it("makes a streamed call again from its beginning while it is short, whatever of it had been read", async () => {
    await using at = await stage();
    const { accessToken } = await at.have("acme");
    rejects(at, accessToken);
    const parts = Array.from({ length: 16 }, (_, i) => Buffer.alloc(8_192, i));
    const answer = await streamed(at.data, { method: "PUT" }, parts);
    expect(answer.head.status).toBe(200);
    expect(at.api.seen.map(({ body }) => body.equals(Buffer.concat(parts)))).toEqual([true, true]);
  });

  it("is the answer to a long streamed call, which is not made again", async () => {
    await using at = await stage();
    const { accessToken } = await at.have("acme");
    rejects(at, accessToken);
    const answer = await streamed(at.data, { method: "PUT" }, Array(5).fill(Buffer.alloc(65_536)));
    expect([answer.head.status, answer.body.toString()]).toEqual([401, '{"ended":true}']);
    expect(at.api.seen.length).toBe(1);
    expect(at.simulator.stats().tokenRequests).toBe(0);
  });
});
