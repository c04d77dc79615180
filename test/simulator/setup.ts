import { setTimeout as delay } from "node:timers/promises";
import { afterEach } from "vitest";
import type { Clock } from "../../src/clock.ts";
import { type Simulator, type SimulatorOptions, startSimulator } from "../../src/simulator/simulator.ts";

const running: Simulator[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.close()));
});

/** A clock that stands still until told; its sleeps are real and short. */
export class StandingClock implements Clock {
  #nowMs = Date.UTC(2026, 0, 2, 3, 4, 5);

  now(): number {
    return this.#nowMs;
  }

  boot(): number {
    return this.#nowMs;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  }

  advance(ms: number): void {
    this.#nowMs += ms;
  }
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Record<string, unknown>;
}

/** A running simulator with its clock and a client of it. Closed after the test. */
export async function vendor(options: Partial<SimulatorOptions> = {}) {
  const clock = new StandingClock();
  const simulator = await startSimulator({ clock, ...options });
  running.push(simulator);

  const call = async (path: string, init: RequestInit = {}): Promise<Reply> => {
    const response = await fetch(`${simulator.url}${path}`, { redirect: "manual", ...init });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, json: parse(text) };
  };
  const form = (path: string, fields: Record<string, string>, headers: Record<string, string> = {}) =>
    call(path, { method: "POST", body: new URLSearchParams(fields), headers });
  const secret = { client_id: "demo-client", client_secret: "demo-secret" };
  const token = (fields: Record<string, string>) => form("/oauth/token", { ...secret, ...fields });
  const refresh = (refreshToken: string) =>
    token({ grant_type: "refresh_token", refresh_token: refreshToken });
  const me = (accessToken: string) =>
    call("/api/me", { headers: { authorization: `Bearer ${accessToken}` } });
  const post = (path: string, value: unknown, method = "POST") =>
    call(path, { method, body: JSON.stringify(value), headers: { "content-type": "application/json" } });
  return { clock, simulator, call, form, token, refresh, me, post };
}

/** A member of a JSON answer that must be a string. */
export function textOf(reply: Reply, member: string): string {
  const value = reply.json[member];
  if (typeof value !== "string") throw new Error(`${member} is missing in ${reply.status} ${reply.text}`);
  return value;
}

function parse(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}
