import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import type { OutboundRequest } from "../../src/egress/egress.ts";
import { CA, httpsServer, post, recordingDial, room, tcpServer } from "./servers.ts";

const PUBLIC = "93.184.216.34";

async function vendor(host = "login.example.test") {
  const seen: (string | undefined)[] = [];
  const port = await httpsServer((request, response) => {
    seen.push(request.headers.host);
    response.end("{}");
  });
  const { dial, dialled } = recordingDial(port);
  const request = (changes: Partial<OutboundRequest> = {}): OutboundRequest =>
    post(`https://${host}/token`, { allowedHosts: [host], allowLoopback: false, ...changes });
  return { dial, dialled, seen, request, port };
}

describe("TLS", () => {
  it("checks the certificate against the name while dialling the address", async () => {
    const { dial, dialled, seen, request } = await vendor();
    const egress = room({ dial, resolve: async () => [PUBLIC] });
    expect(await egress.request(request())).toMatchObject({ kind: "answer", status: 200 });
    expect([dialled, seen]).toEqual([[`${PUBLIC}:443`], ["login.example.test"]]);
  });

  it("sends nothing to a server whose certificate is for another name", async () => {
    const { dial, seen, request } = await vendor("login.other.test");
    let asked = false;
    const beforeFirstByte = (): boolean => {
      asked = true;
      return true;
    };
    const egress = room({ dial, resolve: async () => [PUBLIC] });
    expect(await egress.request(request({ beforeFirstByte }))).toEqual({
      kind: "not_sent",
      cause: "tls_certificate_invalid",
    });
    expect([seen, asked]).toEqual([[], false]);
  });

  it("sends nothing to a server that no trusted authority vouches for, not even when the environment says so", async () => {
    const { dial, seen, request } = await vendor();
    const egress = room({ dial, resolve: async () => [PUBLIC], ca: [] });
    expect(await egress.request(request())).toEqual({ kind: "not_sent", cause: "tls_certificate_invalid" });
    process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
    try {
      expect(await egress.request(request())).toEqual({ kind: "not_sent", cause: "tls_certificate_invalid" });
    } finally {
      delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
    }
    expect(seen).toEqual([]);
  });

  it("trusts the machine's own authorities beside those it is given", async () => {
    const { dial, request } = await vendor();
    const own = getCACertificates("default");
    onTestFinished(() => setDefaultCACertificates(own));
    const other = own.slice(0, 1);
    setDefaultCACertificates([CA]);
    for (const ca of [other, []]) {
      const egress = room({ dial, resolve: async () => [PUBLIC], ca });
      expect(await egress.request(request())).toMatchObject({ kind: "answer" });
    }
  });

  it("checks the certificate of an address against the address", async () => {
    const { port } = await vendor();
    const url = `https://127.0.0.1:${port}/token`;
    expect(await room().request(post(url))).toMatchObject({ kind: "answer" });
    const other = recordingDial(port);
    const elsewhere = post("https://127.0.0.2/token", { allowedHosts: ["127.0.0.2"] });
    expect(await room({ dial: other.dial }).request(elsewhere)).toEqual({
      kind: "not_sent",
      cause: "tls_certificate_invalid",
    });
  });

  it("resets after the request are unknown here too", async () => {
    const { dial, request } = await vendorThat((socket) => socket.destroy());
    const egress = room({ dial, resolve: async () => [PUBLIC] });
    expect(await egress.request(request())).toMatchObject({ kind: "unknown" });
  });

  it("sends nothing when the handshake fails, hangs or is cut off", async () => {
    const plain = await tcpServer((socket) => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"));
    const cut = await tcpServer((socket) => socket.destroy());
    const mute = await tcpServer(() => {});
    for (const [server, cause] of [
      [plain, "tls_failed"],
      [cut, "tls_failed"],
      [mute, "connect_timeout"],
    ] as const) {
      const r = post(`https://localhost:${server.port}/`, {
        connectTimeoutMs: cause === "connect_timeout" ? 150 : 5_000,
        allowedHosts: ["localhost"],
      });
      const egress = room({ ca: [CA], dial: recordingDial(server.port).dial });
      expect(await egress.request(r)).toEqual({ kind: "not_sent", cause });
      expect(server.seen()).not.toContain("grant_type");
    }
  });
});

async function vendorThat(act: (socket: { destroy(): unknown }) => void) {
  const port = await httpsServer((request) => act(request.socket));
  const { dial } = recordingDial(port);
  const host = "login.example.test";
  return {
    dial,
    request: () => post(`https://${host}/token`, { allowedHosts: [host], allowLoopback: false }),
  };
}
