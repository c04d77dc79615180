import { type AddressInfo, createServer } from "node:net";
import { onTestFinished } from "vitest";
import { systemClock } from "../../../src/clock.ts";
import { assertHost } from "../../../src/egress/egress.ts";
import { createForward } from "../../../src/providers/forward/forward.ts";
import { catalogueOf } from "../../../src/providers/load.ts";
import type { Forward, ForwardedCall } from "../../../src/tokens/forwarding.ts";
import { Secret } from "../../../src/tokens/secret.ts";
import { recordingDial, room } from "../../egress/servers.ts";
import { providerOf } from "../stage.ts";

/** A provider whose host the account decides, at `https://${host}/v1`. */
export const ANY_HOST = `account_fields:
  host: { title: Host, pattern: "^.*$" }
credentials: { format: api_key }
authorization: { format: header, config: { name: X-Key, value: "\${api_key}" } }
allowed_hosts: ["\${host}"]
proxy: { base_url: "https://\${host}/v1" }
`;

/** A provider at api.example.test that also names files.example.test. */
export const FIXED = `credentials: { format: api_key }
authorization: { format: header, config: { name: X-Key, value: "\${api_key}" } }
allowed_hosts: [api.example.test, files.example.test]
proxy: { base_url: "https://api.example.test/v1", headers: { X-Version: "7" } }
`;

/** A call of `acme` unless said otherwise. */
export function callOf(changes: Partial<ForwardedCall> = {}): ForwardedCall {
  return {
    provider: "acme",
    fields: {},
    baseUrl: "https://api.example.test/v1",
    credential: new Secret({ headers: { "X-Key": "the-key" }, queryParameters: {} }),
    method: "GET",
    path: "/me",
    query: [],
    headers: [],
    body: undefined,
    maxBodyBytes: 65_536,
    untilBootMs: Number.POSITIVE_INFINITY,
    answerWithinMs: 5_000,
    signal: new AbortController().signal,
    permits: undefined,
    ...changes,
  };
}

/** Calls at `file`'s provider; every connection lands at `port` on loopback, whatever was to be dialled. */
export function forwarding(
  file: string,
  port: number,
  resolve: (host: string) => Promise<readonly string[]> = async () => ["93.184.215.14"],
): { readonly forward: Forward; readonly dialled: readonly string[] } {
  const { dial, dialled } = recordingDial(port);
  const outlet = room({ dial, resolve });
  const catalogue = catalogueOf(new Map([["acme", providerOf(file)]]));
  const forward = createForward({
    catalogue: () => catalogue,
    outlet,
    requireHost: assertHost,
    clock: systemClock(),
  });
  return { forward, dialled };
}

/** A TCP port on every loopback address which notes whoever connects. */
export async function silentPort(): Promise<{ readonly port: number; readonly visits: () => number }> {
  let visits = 0;
  const server = createServer((socket) => {
    visits += 1;
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return { port: (server.address() as AddressInfo).port, visits: () => visits };
}

/** The reason and cause, or field, that a call is refused with. */
export async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "not refused";
  } catch (error) {
    const { reason, metadata, violations } = error as {
      reason?: string;
      metadata?: Record<string, string>;
      violations?: { field: string }[];
    };
    return [reason ?? String(error), violations?.[0]?.field ?? metadata?.["cause"]].join(" ");
  }
}
