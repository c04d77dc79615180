import { createServer } from "node:http";
import Provider from "oidc-provider";
import { freePort } from "../backends/ports.ts";

export interface OidcServer {
  readonly port: number;
  readonly url: string;
  close(): Promise<void>;
}

export const APP_SECRET = "app-secret-of-a-test-server-only";

/**
 * The OpenID-certified server from npm, with its own pages for login and consent: PKCE is required and refresh tokens
 * rotate.
 */
export async function startOidcServer(): Promise<OidcServer> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const provider = new Provider(url, {
    clients: [
      {
        client_id: "app",
        client_secret: APP_SECRET,
        application_type: "native",
        grant_types: ["authorization_code", "refresh_token"],
        redirect_uris: ["http://127.0.0.1/callback"],
        response_types: ["code"],
      },
    ],
    cookies: { keys: ["of-a-test-server-only"] },
    features: {
      introspection: { enabled: true },
      revocation: { enabled: true },
    },
    findAccount: (_context: unknown, accountId: string) => ({
      accountId,
      claims: () => ({ sub: accountId }),
    }),
    pkce: { required: () => true },
    rotateRefreshToken: true,
    ttl: { AccessToken: 3_600 },
  });
  const http = createServer(provider.callback());
  await new Promise<void>((resolve) => http.listen(port, "127.0.0.1", resolve));
  return {
    port,
    url,
    close: () =>
      new Promise((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      }),
  };
}
