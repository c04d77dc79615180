import type { ServerResponse } from "node:http";

const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "content-type": "text/html; charset=utf-8",
  // The address holds code and state.
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

/** One sentence for whoever sits before the browser. */
export function callbackPage(response: ServerResponse, status: number, sentence: string): void {
  if (response.headersSent) return;
  for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
  response.statusCode = status;
  const text = sentence.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  response.end(`<!doctype html><html lang="en"><title>Keyturn</title><p>${text}</p></html>\n`);
}
