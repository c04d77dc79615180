import { describe, expect, it } from "vitest";
import { checkedHeaders, checkedMethod } from "../../src/egress/head.ts";
import { KeyturnError } from "../../src/errors.ts";

function violation(work: () => unknown): { readonly field: string; readonly shown: string } {
  try {
    work();
  } catch (error) {
    if (!(error instanceof KeyturnError) || error.reason !== "INVALID_REQUEST") throw error;
    return {
      field: error.violations[0]?.field ?? "",
      shown: error.message + JSON.stringify(error.violations),
    };
  }
  throw new Error("let through");
}

describe("checkedMethod", () => {
  it("returns the method in upper case", () => {
    expect(checkedMethod("post")).toBe("POST");
  });
  it.each(["", "POST /x HTTP/1.1\r\nx: y", "PO ST", "POST\0", "CONNECT", "connect", "TRACE"])(
    "refuses %j",
    (method) => {
      expect(violation(() => checkedMethod(method)).field).toBe("method");
    },
  );
});

describe("checkedHeaders", () => {
  it("keeps names, values and order, and asks for no compression", () => {
    expect(
      checkedHeaders([
        ["X-A", "1"],
        ["x-a", "é\t2"],
      ]),
    ).toEqual(["X-A", "1", "x-a", "é\t2", "accept-encoding", "identity"]);
  });
  it("leaves a given accept-encoding alone", () => {
    expect(checkedHeaders([["Accept-Encoding", "gzip"]])).toEqual(["Accept-Encoding", "gzip"]);
  });
  it.each(["a\r\nb: c", "a\nb", "a\rb", "a\0b", "a\x01b", "a\x7fb", "a\u0100b", "\u{1f600}"])(
    "refuses the value %j and does not repeat it",
    (value) => {
      const { field, shown } = violation(() => checkedHeaders([["Authorization", `planted-secret${value}`]]));
      expect(field).toBe("headers.authorization");
      expect(shown).not.toContain("planted-secret");
    },
  );
  it.each(["", "a b", "a:b", "a\r\nb", "é"])("refuses the name %j by its position", (name) => {
    expect(
      violation(() =>
        checkedHeaders([
          ["x", "y"],
          [name, "z"],
        ]),
      ).field,
    ).toBe("headers[1]");
  });
  it.each([
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Upgrade",
    "Expect",
    "TE",
    "Trailer",
  ])("refuses %s, which frames the message", (name) => {
    expect(violation(() => checkedHeaders([[name, "1"]])).field).toBe(`headers.${name.toLowerCase()}`);
  });
});
