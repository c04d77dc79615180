import type { IncomingHttpHeaders } from "node:http";
import { invalid, KeyturnError } from "../../errors.ts";

/** What a proxy in front of us adds: then whoever it lets in would be taken for a local caller. */
const FORWARDED = /^(forwarded|via|x-forwarded-.*|x-real-ip)$/;

/**
 * Keeps browsers' pages and proxies out, before anything of the body is read. CALLER_NOT_ALLOWED unless the request
 * comes from this machine as far as its headers tell; INVALID_REQUEST without a header that no page sends by accident.
 */
export function requireLocal(headers: IncomingHttpHeaders, listeningHost: string): void {
  const host = headers.host ?? headers[":authority"]?.toString() ?? "";
  // A name that somebody else can point at this machine (DNS rebinding).
  if (!isLocal(host, listeningHost)) throw refused("host_not_local", "Host must be that of this machine.");
  if (headers.origin !== undefined && headers.origin !== `http://${host}`)
    throw refused("foreign_origin", "Pages of other origins are not answered.");
  const forwarded = Object.keys(headers).find((name) => FORWARDED.test(name));
  if (forwarded !== undefined)
    throw refused("forwarded", `Forwarded requests are not answered (${forwarded}).`);
  const isMeant =
    headers["connect-protocol-version"] !== undefined ||
    headers["x-grpc-web"] !== undefined ||
    headers.te === "trailers";
  if (!isMeant) throw invalid("header connect-protocol-version", "has to be sent: 1");
  requireReadable(headers);
}

/** What the protocols' own library would refuse without our reasons. */
function requireReadable(headers: IncomingHttpHeaders): void {
  const timeout = headers["connect-timeout-ms"];
  if (timeout !== undefined && !/^[0-9]{1,10}$/.test(String(timeout)))
    throw invalid("header connect-timeout-ms", "milliseconds, at most 10 digits");
  for (const name of ["content-encoding", "connect-content-encoding", "grpc-encoding"]) {
    if (headers[name] !== undefined && headers[name] !== "identity")
      throw invalid(`header ${name}`, "identity: requests are not compressed");
  }
}

const NAME = /^(\[[0-9a-f:.]+\]|[^:[\]/@]+)(?::[0-9]{1,5})?$/;

function isLocal(host: string, listeningHost: string): boolean {
  const name = NAME.exec(host.toLowerCase())?.[1];
  if (name === undefined) return false;
  const own = listeningHost.includes(":") ? `[${listeningHost}]` : listeningHost.toLowerCase();
  return ["127.0.0.1", "localhost", "[::1]", own].includes(name);
}

function refused(cause: string, message: string): KeyturnError {
  return new KeyturnError("CALLER_NOT_ALLOWED", message, { metadata: { cause } });
}
