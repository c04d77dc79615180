import { lookup } from "node:dns/promises";

/** All addresses of a host name, best first; rejects when there are none. Asked once per dial. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/** The machine's own resolver. Names under `localhost` never reach it (RFC 6761 §6.3). */
export function systemResolve(): Resolve {
  const asking = new Map<string, Promise<readonly string[]>>();

  async function ask(host: string): Promise<readonly string[]> {
    try {
      const found = await lookup(host, { all: true, order: "verbatim" });
      return found.map(({ address }) => address);
    } finally {
      asking.delete(host);
    }
  }

  return (host) => {
    if (host === "localhost" || host.endsWith(".localhost")) return Promise.resolve(["127.0.0.1", "::1"]);
    // getaddrinfo takes one of libuv's few workers for as long as it hangs: one per name, not one per request.
    const running = asking.get(host) ?? ask(host);
    asking.set(host, running);
    return running;
  };
}
