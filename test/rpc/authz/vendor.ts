import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

const FIXTURES = join(import.meta.dirname, "../../egress/fixtures");
/** Signed the certificate of `api.example.test`. */
export const CA_FILE = join(FIXTURES, "ca.pem");

/** A request as it arrived. */
export interface Seen {
  readonly method: string;
  readonly url: string;
  /** Name and value in turn, as they were sent. */
  readonly rawHeaders: readonly string[];
}

/** A provider's API, which notes what it is sent. */
export interface Api {
  readonly port: number;
  readonly seen: Seen[];
  [Symbol.asyncDispose](): Promise<void>;
}

export async function startApi(): Promise<Api> {
  const seen: Seen[] = [];
  const tls = {
    cert: readFileSync(join(FIXTURES, "server.pem")),
    key: readFileSync(join(FIXTURES, "server.key")),
  };
  const server = createServer(tls, (request, response) => {
    const { method = "", url = "", rawHeaders } = request;
    seen.push({ method, url, rawHeaders });
    request.resume().on("end", () => response.end("ok"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Every value of one header. */
export function valuesOf({ rawHeaders }: Seen, name: string): readonly string[] {
  return rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name);
}
