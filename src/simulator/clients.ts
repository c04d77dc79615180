import { type Answer, problem } from "./answer.ts";
import { header, type Incoming, type Parameters } from "./parameters.ts";

/** An app's registration at the simulated vendor. */
export interface SimulatorClient {
  readonly clientId: string;
  /** Undefined: a public client, which proves nothing at the token endpoint and must use PKCE. */
  readonly clientSecret?: string | undefined;
  /** Ways a confidential client may authenticate; default both. */
  readonly authMethods?: readonly ("client_secret_basic" | "client_secret_post")[] | undefined;
  /** Matched exactly, but for the port of loopback addresses (RFC 8252 §7.3). Undefined: any http(s) address. */
  readonly redirectUris?: readonly string[] | undefined;
}

/** Who a request claims to be from, proven or not. */
export interface ClaimedClient {
  readonly clientId: string | undefined;
  readonly secret: string | undefined;
  readonly by: "basic" | "post";
  /** More than one way of authenticating, or Basic credentials that cannot be read. */
  readonly malformed: boolean;
}

/** Reads the client's credentials out of the header or the body. */
export function claimedClient(incoming: Incoming, parameters: Parameters): ClaimedClient {
  const inBody = { clientId: parameters.get("client_id"), secret: parameters.get("client_secret") };
  const authorization = header(incoming, "authorization");
  if (authorization === undefined) return { ...inBody, by: "post", malformed: false };
  const basic = basicCredentials(authorization);
  const clientId = basic && formDecode(basic.user);
  const secret = basic && formDecode(basic.password);
  const twice =
    inBody.secret !== undefined || (inBody.clientId !== undefined && inBody.clientId !== clientId);
  return {
    clientId,
    secret,
    by: "basic",
    malformed: clientId === undefined || secret === undefined || twice,
  };
}

/** User and password of a Basic header as they stand there; undefined when it is not one. */
export function basicCredentials(authorization: string): { user: string; password: string } | undefined {
  const encoded = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(authorization)?.[1];
  if (encoded === undefined) return undefined;
  const decoded = Buffer.from(encoded, "base64").toString("utf8");
  const colon = decoded.indexOf(":");
  return colon < 0 ? undefined : { user: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
}

/** The registered clients. */
export class Clients {
  readonly #clients = new Map<string, SimulatorClient>();

  constructor(clients: readonly SimulatorClient[]) {
    for (const client of clients) this.put(client);
  }

  /** Adds a client or replaces the one of that id, as a vendor's console does with a new secret. */
  put(client: SimulatorClient): void {
    this.#clients.set(client.clientId, client);
  }

  get(clientId: string | undefined): SimulatorClient | undefined {
    return clientId === undefined ? undefined : this.#clients.get(clientId);
  }

  /** The client registered first. */
  first(): SimulatorClient | undefined {
    return this.#clients.values().next().value;
  }

  /** The client when `claimed` proves to be it (RFC 6749 §2.3.1), else the refusal. */
  authenticate(claimed: ClaimedClient): { client: SimulatorClient } | { refusal: Answer } {
    if (claimed.malformed)
      return refuse(claimed, "authenticate in one way, form-encoded before base64 in Basic");
    const client = this.get(claimed.clientId);
    if (!client) return refuse(claimed, "no such client");
    if (client.clientSecret === undefined) {
      return claimed.secret === undefined || claimed.secret === ""
        ? { client }
        : refuse(claimed, "a public client has no secret");
    }
    const method = claimed.by === "basic" ? "client_secret_basic" : "client_secret_post";
    if (client.authMethods?.includes(method) === false) return refuse(claimed, `${method} is not registered`);
    return claimed.secret === client.clientSecret
      ? { client }
      : refuse(claimed, "client authentication failed");
  }
}

function refuse({ by }: ClaimedClient, description: string): { refusal: Answer } {
  const challenge: Record<string, string> =
    by === "basic" ? { "www-authenticate": 'Basic realm="simulator"' } : {};
  return { refusal: problem(401, "invalid_client", description, challenge) };
}

function formDecode(value: string): string | undefined {
  try {
    return decodeURIComponent(value.replaceAll("+", " "));
  } catch {
    return undefined;
  }
}
