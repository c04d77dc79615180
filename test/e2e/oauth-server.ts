import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import {
  AuthorizationServer,
  DateInterval,
  generateRandomToken,
  isOAuthError,
  type OAuthAuthCode,
  type OAuthClient,
  OAuthException,
  OAuthRequest,
  type OAuthToken,
  type RefreshTokenGrant,
} from "@jmondi/oauth2-server";

const CLIENT: OAuthClient = {
  id: "app",
  name: "app",
  secret: "app-secret",
  redirectUris: ["http://127.0.0.1/callback"],
  allowedGrants: ["authorization_code", "refresh_token"],
  scopes: [],
};

export interface OAuthServer {
  readonly port: number;
  /** A token set as a customer's consent would have given it. */
  grant(subject: string): Promise<{ accessToken: string; refreshToken: string; expiresAtMs: number }>;
  /** Refreshes answered with a token. */
  readonly answered: () => number;
  /** Subjects whose grant was ended: a spent refresh token came again, or one was revoked. */
  readonly ended: ReadonlySet<string>;
  close(): Promise<void>;
}

/**
 * The npm package behind plain HTTP, for customers who always agree: codes need PKCE, refresh tokens rotate, and a spent
 * one that comes again ends its grant.
 */
export async function startOAuthServer(lifetime: string): Promise<OAuthServer> {
  const tokens = new Map<string, OAuthToken>();
  const codes = new Map<string, OAuthAuthCode>();
  const spent = new Set<string>();
  const ended = new Set<string>();
  let answered = 0;
  const subjectOf = (token: OAuthToken) => String(token.user?.id);
  const server = new AuthorizationServer(
    {
      getByIdentifier: async () => CLIENT,
      isClientValid: async (_grant, client, secret) => client.secret === secret,
    },
    {
      issueToken: async (client, scopes, user) => ({
        accessToken: generateRandomToken(),
        accessTokenExpiresAt: new Date(),
        client,
        scopes,
        user: user ?? null,
      }),
      issueRefreshToken: async (token) => {
        const refreshToken = generateRandomToken();
        const issued = { ...token, refreshToken, refreshTokenExpiresAt: DateInterval.getDateEnd("30d") };
        tokens.set(refreshToken, issued);
        return issued;
      },
      persist: async () => undefined,
      revoke: async ({ refreshToken }) => {
        spent.add(refreshToken ?? "");
      },
      isRefreshTokenRevoked: async (token) => {
        if (spent.has(token.refreshToken ?? "")) ended.add(subjectOf(token));
        return ended.has(subjectOf(token));
      },
      getByRefreshToken: async (refreshToken) => {
        const token = tokens.get(refreshToken);
        if (token === undefined) throw OAuthException.invalidGrant();
        return token;
      },
    },
    { getAllByIdentifiers: async () => [], finalize: async () => [] },
    "signing-key-of-a-test-server-only",
  );
  const ttl = new DateInterval(lifetime);
  server.enableGrantType("refresh_token", ttl);
  server.enableGrantType(
    {
      grant: "authorization_code",
      userRepository: { getUserByCredentials: async (id) => ({ id }) },
      authCodeRepository: {
        getByIdentifier: async (code) => {
          const known = codes.get(code);
          if (known === undefined) throw OAuthException.invalidGrant();
          return known;
        },
        issueAuthCode: (client, user, scopes) => ({
          code: generateRandomToken(),
          expiresAt: DateInterval.getDateEnd("1m"),
          client,
          scopes,
          user: user ?? null,
        }),
        persist: async (code) => {
          codes.set(code.code, code);
        },
        isRevoked: async (code) => !codes.has(code),
        revoke: async (code) => {
          codes.delete(code);
        },
      },
    },
    ttl,
  );
  const refreshes = server.getGrant<RefreshTokenGrant>("refresh_token");

  const http = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://127.0.0.1");
    if (pathname === "/oauth/authorize") {
      void authorize(Object.fromEntries(searchParams)).then((location) =>
        response.writeHead(302, { location }).end(),
      );
      return;
    }
    void respond(request, pathname).then(async ({ status, body }) => {
      // On its way for a while, so that a kill finds something to interrupt.
      await delay(2 + Math.random() * 10);
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    });
  });

  async function authorize(query: Record<string, string>): Promise<string> {
    const asked = await server.validateAuthorizationRequest(new OAuthRequest({ query }));
    asked.user = { id: query["login_hint"] ?? "somebody" };
    asked.isAuthorizationApproved = true;
    const { headers } = await server.completeAuthorizationRequest(asked);
    return String(headers["location"]);
  }

  async function respond(request: IncomingMessage, path: string): Promise<{ status: number; body: unknown }> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(Buffer.from(chunk));
    const body = Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()));
    await delay(Math.random() * 10);
    const oauth = new OAuthRequest({ headers: { authorization: request.headers.authorization ?? "" }, body });
    try {
      if (path === "/revoke") return await server.revoke(oauth);
      const answer = await server.respondToAccessTokenRequest(oauth);
      answered += 1;
      return answer;
    } catch (error) {
      if (!isOAuthError(error)) throw error;
      const { errorType, errorDescription } = error;
      return { status: error.status, body: { error: errorType, error_description: errorDescription } };
    }
  }

  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  return {
    port: (http.address() as AddressInfo).port,
    grant: async (subject) => {
      const expiresAt = ttl.getEndDate();
      const first = { accessToken: generateRandomToken(), accessTokenExpiresAt: expiresAt, client: CLIENT };
      const token = await refreshes.issueRefreshToken(
        { ...first, scopes: [], user: { id: subject } },
        CLIENT,
      );
      const { body } = await refreshes.makeBearerTokenResponse(CLIENT, token);
      const { access_token: accessToken, refresh_token: refreshToken } = body as Record<string, string>;
      if (accessToken === undefined || refreshToken === undefined) throw new Error("no grant");
      return { accessToken, refreshToken, expiresAtMs: expiresAt.getTime() };
    },
    answered: () => answered,
    ended,
    close: () =>
      new Promise((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      }),
  };
}
