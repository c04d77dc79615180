import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Seen } from "../authz/vendor.ts";

/** A request as it arrived, whole. */
export interface SeenWhole extends Seen {
  readonly body: Buffer;
}

/** A provider's API on loopback, which notes what it is sent. */
export interface Api {
  readonly port: number;
  readonly seen: SeenWhole[];
  /** What the next requests are answered; `{}` until told otherwise. */
  answer: (response: ServerResponse, seen: SeenWhole) => void;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function startApi(): Promise<Api> {
  const seen: SeenWhole[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("error", () => undefined);
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method = "", url = "", rawHeaders } = request;
      const one = { method, url, rawHeaders, body: Buffer.concat(chunks) };
      seen.push(one);
      api.answer(response, one);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const api: Api = {
    port: (server.address() as AddressInfo).port,
    seen,
    answer: (response) => response.setHeader("content-type", "application/json").end("{}"),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return api;
}
