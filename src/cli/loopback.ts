import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { invalid } from "../errors.ts";

const LOOPBACK = /^(127(?:\.\d{1,3}){3}|localhost|\[::1\])$/;

/** A redirect that has come, and how the customer before the browser is told what came of it. */
export interface Redirected {
  readonly url: string;
  tell(sentence: string): void;
}

/** A redirect address on this machine (RFC 8252 §7.3), for as long as one authorization takes. */
export interface Loopback {
  /** With its port. */
  readonly redirectUri: string;
  /** Sends who opens it on to the provider. */
  readonly startUrl: string;
  /** The redirect with this state; others are not for us. Rejects when `signal` aborts. */
  redirected(authorizationUrl: string, signal: AbortSignal): Promise<Redirected>;
  close(): void;
}

/** Undefined: a free port under 127.0.0.1. INVALID_REQUEST when the address is not this machine's own or not free. */
export async function listenOnLoopback(redirectUri: string | undefined): Promise<Loopback> {
  const wanted = new URL(redirectUri ?? "http://127.0.0.1:0/callback");
  if (wanted.protocol !== "http:" || !LOOPBACK.test(wanted.hostname))
    throw invalid("--redirect-uri", "http on 127.0.0.1 or localhost, or --paste for any other address");
  let serve: (request: IncomingMessage, response: ServerResponse) => void = (_, response) =>
    page(response, 404, "Nothing is being connected here.");
  const server = createServer((request, response) => serve(request, response));
  // A name is this machine's by its meaning, whatever its resolver says.
  const host = wanted.hostname === "[::1]" ? "::1" : wanted.hostname.replace("localhost", "127.0.0.1");
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) =>
      reject(invalid("--redirect-uri", `a free port; this one cannot be listened on (${error.code})`)),
    );
    server.listen(Number(wanted.port || 80), host, resolve);
  });
  const bound = server.address();
  if (typeof bound === "object" && bound !== null) wanted.port = String(bound.port);
  return {
    redirectUri: wanted.href,
    startUrl: new URL("/", wanted).href,
    redirected: (authorizationUrl, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        const state = new URL(authorizationUrl).searchParams.get("state");
        serve = ({ url = "/" }, response) => {
          const came = new URL(URL.canParse(url, wanted) ? url : "/", wanted);
          if (came.pathname === "/") {
            response.writeHead(303, { location: authorizationUrl, "cache-control": "no-store" }).end();
            return;
          }
          if (came.pathname !== wanted.pathname || came.searchParams.get("state") !== state) {
            page(response, 404, "Nothing is being connected here.");
            return;
          }
          resolve({ url: came.href, tell: (sentence) => page(response, 200, sentence) });
        };
      }),
    close: () => {
      server.close();
      server.closeIdleConnections();
    },
  };
}

function page(response: ServerResponse, status: number, sentence: string): void {
  const headers = {
    "cache-control": "no-store",
    connection: "close",
    "content-type": "text/plain; charset=utf-8",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
  };
  response.writeHead(status, headers).end(`${sentence}\n`);
}
