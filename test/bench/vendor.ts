import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import type { Sidecar } from "./bench.ts";

interface Grant {
  readonly access_token: string;
  readonly refresh_token: string;
  readonly expires_at_ms: number;
}

/** The simulated provider, over its control plane. */
export class Vendor {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  get port(): string {
    return new URL(this.#url).port;
  }

  /** An account with a grant of this vendor's. */
  async connect(
    { admin }: Sidecar,
    id: string,
    { expired = false, accessTokenLength }: { expired?: boolean; accessTokenLength?: number } = {},
  ): Promise<void> {
    const grant = (await this.#post("/__grants", { subject: id, expired })) as Grant;
    await admin.call(AccountService.method.createAccount, {
      accountId: id,
      tenant: "acme",
      provider: "simulator",
      client: "main",
      fields: { port: this.port },
      credential: {
        kind: {
          case: "oauth",
          value: {
            accessToken: grant.access_token.padEnd(accessTokenLength ?? 0, "x"),
            refreshToken: grant.refresh_token,
            expireTime: { seconds: BigInt(Math.floor(grant.expires_at_ms / 1_000)), nanos: 0 },
          },
        },
      },
    });
  }

  async fault(fault: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#post("/__faults", fault);
  }

  async clearFaults(): Promise<void> {
    await fetch(`${this.#url}/__faults`, { method: "DELETE" });
  }

  async tokenRequests(): Promise<number> {
    const stats = (await (await fetch(`${this.#url}/__stats`)).json()) as { readonly token_requests: number };
    return stats.token_requests;
  }

  /** When the last token request's answer had left, by the machine's wall clock. */
  async lastAnswerAtMs(): Promise<number> {
    const lines = (await (await fetch(`${this.#url}/__history`)).text()).trimEnd().split("\n");
    return (JSON.parse(lines.at(-1) ?? "{}") as { readonly ended_at_ms: number }).ended_at_ms;
  }

  async #post(path: string, body: Readonly<Record<string, unknown>>): Promise<unknown> {
    const answer = await fetch(`${this.#url}${path}`, { method: "POST", body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
    return answer.json();
  }
}
