import { createServer } from "node:https";
import type { TLSSocket } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import type { OutboundRequest } from "../../src/egress/egress.ts";
import { fixture, listening, post, recordingDial, room } from "./servers.ts";

const HOST = "login.example.test";
const CERTIFICATE = { chain: fixture("client.pem"), key: fixture("client.key") };

/** An HTTPS server that takes nobody without a certificate of the client authority, and says whose it was. */
async function strictServer() {
  const seen: string[] = [];
  let connections = 0;
  const options = {
    key: fixture("server.key"),
    cert: fixture("server.pem"),
    ca: fixture("client-ca.pem"),
    requestCert: true,
    rejectUnauthorized: true,
  };
  const server = createServer(options, (request, response) => {
    seen.push(String((request.socket as TLSSocket).getPeerCertificate().subject.CN));
    response.end("{}");
  });
  server.on("secureConnection", () => {
    connections += 1;
  });
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const port = await listening(server);
  const request = (changes: Partial<OutboundRequest> = {}): OutboundRequest =>
    post(`https://${HOST}/token`, { allowedHosts: [HOST], allowLoopback: false, fresh: false, ...changes });
  const deps = { dial: recordingDial(port).dial, resolve: async () => ["93.184.216.34"] };
  return { seen, request, deps, connections: () => connections };
}

describe("a client certificate", () => {
  it("is shown to a server that asks for one", async () => {
    const { seen, request, deps } = await strictServer();
    const egress = room(deps);
    expect(await egress.request(request({ clientCertificate: CERTIFICATE }))).toMatchObject({ status: 200 });
    expect(seen).toEqual(["keyturn"]);
  });

  it("is never a reason to trust a server: another authority or name is refused as without one", async () => {
    const { seen, request, deps } = await strictServer();
    const refused = { kind: "not_sent", cause: "tls_certificate_invalid" };
    const clientCertificate = CERTIFICATE;
    expect(await room({ ...deps, ca: [] }).request(request({ clientCertificate }))).toEqual(refused);
    // Not even when the client's own authority is the one the server chose.
    const own = room({ ...deps, ca: [fixture("client-ca.pem")] });
    expect(await own.request(request({ clientCertificate }))).toEqual(refused);
    const other = request({
      url: "https://login.other.test/token",
      allowedHosts: ["login.other.test"],
      clientCertificate,
    });
    expect(await room(deps).request(other)).toEqual(refused);
    process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
    try {
      expect(await room({ ...deps, ca: [] }).request(request({ clientCertificate }))).toEqual(refused);
    } finally {
      delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
    }
    expect(seen).toEqual([]);
  });

  it("stays with its own connections: one without it gets none that was opened with it", async () => {
    const { seen, request, deps, connections } = await strictServer();
    const egress = room(deps);
    for (let n = 0; n < 2; n += 1) await egress.request(request({ clientCertificate: CERTIFICATE }));
    expect(connections()).toBe(1);
    const without = await egress.request(request());
    expect(without).not.toMatchObject({ kind: "answer" });
    expect(seen).toHaveLength(2);
  });
});
