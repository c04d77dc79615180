import { describe, expect, it } from "vitest";
import { AccountService } from "../../../src/gen/keyturn/v1/account_service_pb.js";
import { reasonOf } from "../../e2e/harness.ts";
import { valuesOf } from "../authz/vendor.ts";
import { fields, headerOf, keep, stage, streamed } from "./stage.ts";

describe("a call as an account", () => {
  it("reaches the provider below its base URL, with the account's token and the file's headers", async () => {
    await using at = await stage();
    const { accessToken } = await at.have("acme");
    at.api.answer = (response) => response.writeHead(201, { "content-type": "text/plain" }).end("made");
    const answer = await at.proxy({
      method: "POST",
      path: "/contacts/a%2Fb",
      query: fields([
        ["q", "a b&c=d/ü"],
        ["id", "1"],
        ["id", "2"],
      ]),
      headers: fields([
        ["X-One", "1"],
        ["x-one", "2"],
        ["Content-Type", "application/octet-stream"],
      ]),
      body: Buffer.from([0, 255, 13, 10, 0]),
    });
    expect([answer.status, Buffer.from(answer.body).toString(), headerOf(answer, "content-type")]).toEqual([
      201,
      "made",
      "text/plain",
    ]);
    const [seen] = at.api.seen;
    if (seen === undefined) throw new Error("nothing arrived");
    expect(seen.method).toBe("POST");
    expect(seen.url).toBe("/v1/contacts/a%2Fb?q=a%20b%26c%3Dd%2F%C3%BC&id=1&id=2");
    expect(valuesOf(seen, "authorization")).toEqual([`Bearer ${accessToken}`]);
    expect(valuesOf(seen, "x-one")).toEqual(["1", "2"]);
    expect(valuesOf(seen, "x-api-version")).toEqual(["2026-01"]);
    expect([...seen.body]).toEqual([0, 255, 13, 10, 0]);
  });

  it("never carries the caller's credentials, in whatever spelling, and lets it choose the file's headers", async () => {
    await using at = await stage();
    const { accessToken } = await at.have("acme");
    await at.proxy({
      headers: fields([
        ["Authorization", "Bearer mine"],
        ["AUTHORIZATION", "Basic mine"],
        ["Cookie", "session=mine"],
        ["Proxy-Authorization", "Basic mine"],
        ["TE", "trailers"],
        ["Upgrade", "websocket"],
        ["Keep-Alive", "timeout=5"],
        ["x-api-version", "2020-01"],
      ]),
    });
    await keep(at, "keyed", "keys", "the-key", { app_key: "the-app" });
    await at.proxy({
      accountId: "keyed",
      query: fields([
        ["app_key", "mine"],
        ["page", "2"],
      ]),
      headers: fields([
        ["x-api-key", "mine"],
        ["X_API_KEY", "mine"],
      ]),
    });
    const [bearer, keys] = at.api.seen;
    if (bearer === undefined || keys === undefined) throw new Error("nothing arrived");
    expect(JSON.stringify(at.api.seen.map(({ url, rawHeaders }) => [url, rawHeaders]))).not.toContain("mine");
    expect(valuesOf(bearer, "authorization")).toEqual([`Bearer ${accessToken}`]);
    expect(valuesOf(bearer, "x-api-version")).toEqual(["2020-01"]);
    for (const name of ["te", "upgrade", "keep-alive"]) expect(valuesOf(bearer, name), name).toEqual([]);
    expect(keys.url).toBe("/me?tenant=acme&page=2&app_key=the-app");
    expect(valuesOf(keys, "x-api-key")).toEqual(["the-key"]);
  });

  it("gets the answer as it is: several values of a header, no hop-by-hop ones, any status", async () => {
    await using at = await stage();
    await at.have("acme");
    at.api.answer = (response) => {
      response.writeHead(503, [
        ["Set-Cookie", "a=1"],
        ["Set-Cookie", "b=2"],
        ["Connection", "x-internal"],
        ["X-Internal", "secret"],
        ["Keep-Alive", "timeout=9"],
        ["Upgrade", "h2c"],
      ]);
      response.end(Buffer.from([0xff, 0x00]));
    };
    const answer = await at.proxy();
    expect(answer.status).toBe(503);
    expect([...answer.body]).toEqual([0xff, 0x00]);
    const names = answer.headers.map(({ name, value }) => `${name}: ${value}`);
    expect(names.filter((line) => line.startsWith("set-cookie"))).toEqual([
      "set-cookie: a=1",
      "set-cookie: b=2",
    ]);
    for (const name of ["connection", "x-internal", "keep-alive", "upgrade", "transfer-encoding"])
      expect(headerOf(answer, name), name).toBeUndefined();
    expect(at.api.seen.length).toBe(1);
  });

  it("is refused where the file names no base URL", async () => {
    await using at = await stage();
    await keep(at, "lost", "nowhere", "k");
    expect(await at.proxy({ accountId: "lost" }).catch(reasonOf)).toBe("DESTINATION_NOT_ALLOWED");
  });

  it("says what is missing, as GetToken does", async () => {
    await using at = await stage();
    expect(await at.proxy({ accountId: "nobody" }).catch(reasonOf)).toBe("ACCOUNT_NOT_FOUND");
    expect(await at.proxy({ accountId: "no body" }).catch(reasonOf)).toBe("INVALID_REQUEST");
    await at.have("acme");
    await at.admin.call(AccountService.method.disableAccount, { accountId: "acme" });
    expect(await at.proxy().catch(reasonOf)).toBe("ACCOUNT_DISABLED");
  });
});

describe("a streamed call", () => {
  it("passes both bodies through, and the trailers", async () => {
    await using at = await stage();
    await at.have("acme");
    at.api.answer = (response, { body }) => {
      response.writeHead(200, { trailer: "x-sum" });
      response.write(body);
      response.addTrailers({ "X-Sum": String(body.length) });
      response.end();
    };
    const part = Buffer.alloc(64 * 1024, 7);
    const answer = await streamed(at.data, { method: "PUT", path: "/file" }, Array(16).fill(part));
    expect(answer.head.status).toBe(200);
    expect(answer.body.equals(Buffer.alloc(1024 * 1024, 7))).toBe(true);
    expect(answer.trailers).toEqual([["x-sum", String(1024 * 1024)]]);
    const [seen] = at.api.seen;
    expect(seen === undefined ? [] : valuesOf(seen, "transfer-encoding")).toEqual(["chunked"]);
  });

  it("has no body when there is no chunk, and a length when one is said", async () => {
    await using at = await stage();
    await at.have("acme");
    await streamed(at.data, {});
    await streamed(at.data, { method: "POST", contentLength: 5n }, [Buffer.from("he"), Buffer.from("llo")]);
    const [get, post] = at.api.seen;
    if (get === undefined || post === undefined) throw new Error("nothing arrived");
    expect([valuesOf(get, "transfer-encoding"), valuesOf(get, "content-length")]).toEqual([[], []]);
    expect([valuesOf(post, "content-length"), post.body.toString()]).toEqual([["5"], "hello"]);
  });

  it("names what is wrong with its messages", async () => {
    await using at = await stage();
    await at.have("acme");
    const wrong = (request: object, body: Uint8Array[] = []) =>
      streamed(at.data, request, body).catch(reasonOf);
    expect(await wrong({ body: Buffer.from("x") })).toBe("INVALID_REQUEST");
    expect(await wrong({ contentLength: -1n })).toBe("INVALID_REQUEST");
    expect(await wrong({ method: "POST", contentLength: 9n }, [Buffer.from("short")])).toBe(
      "INVALID_REQUEST",
    );
    expect(at.api.seen).toEqual([]);
  });
});
