import { describe, expect, it, onTestFinished } from "vitest";
import { KeyturnError } from "../../../src/errors.ts";
import type { Body, VaultClient } from "../../../src/seal/kek/vault/client.ts";
import { vaultFault } from "../../../src/seal/kek/vault/fault.ts";
import type { Login } from "../../../src/seal/kek/vault/login.ts";
import { Session } from "../../../src/seal/kek/vault/session.ts";
import { Secret } from "../../../src/tokens/secret.ts";
import { ManualClock } from "../../store/manual-clock.ts";

const turns = async () => {
  for (let n = 0; n < 20; n += 1) await Promise.resolve();
};

/** A session under a clock of its own; every login and renewal is noted with its time in seconds. */
function session({
  leaseSeconds,
  renewable = true,
}: {
  readonly leaseSeconds: number;
  readonly renewable?: boolean;
}) {
  const clock = new ManualClock();
  const startMs = clock.boot();
  const seen: string[] = [];
  const reports: string[] = [];
  const now = () => (clock.boot() - startMs) / 1_000;
  const vault = {
    login: (): Login => ({
      token: new Secret(`token-${seen.length}`),
      leaseMs: leaseSeconds * 1_000,
      renewable,
    }),
    renew: (): Body => ({ auth: { lease_duration: leaseSeconds, renewable } }),
  };
  const client: VaultClient = {
    read: () => Promise.reject(new Error("not asked")),
    write: async (path) => {
      seen.push(`${path} ${now()}`);
      return vault.renew();
    },
    close: () => undefined,
  };
  const under = new Session({
    client,
    logIn: async () => {
      const login = vault.login();
      seen.push(`login ${now()}`);
      return login;
    },
    clock,
    random: () => 0,
    report: (what) => reports.push(what),
  });
  onTestFinished(() => under.close());
  /** In steps, so that each timer meets the ones that it starts. */
  const pass = async (seconds: number, stepSeconds = seconds / 100) => {
    for (let passed = 0; passed < seconds; passed += stepSeconds) {
      clock.advance(stepSeconds * 1_000);
      await turns();
    }
  };
  return { under, vault, clock, seen, reports, pass };
}

const kinds = (seen: readonly string[]) => seen.map((one) => one.split(" ")[0]);

describe("a Vault session", () => {
  it("renews a token of 2,764,800 s after two thirds of that, and not at once", async () => {
    const { under, seen, pass } = session({ leaseSeconds: 2_764_800 });
    await under.token();
    await turns();
    expect(seen).toEqual(["login 0"]);
    await pass(1_843_199, 1_843_199);
    expect(seen).toEqual(["login 0"]);
    await pass(1);
    expect(seen).toEqual(["login 0", "auth/token/renew-self 1843200"]);
    await pass(1_843_200, 1_843_200);
    expect(seen).toHaveLength(3);
  });

  it("renews a token of 5 s every 3.3 s, without an end", async () => {
    const { under, seen, pass } = session({ leaseSeconds: 5 });
    await under.token();
    await pass(100, 0.1);
    expect(kinds(seen.slice(1)).every((kind) => kind === "auth/token/renew-self")).toBe(true);
    expect(seen.length - 1).toBeGreaterThanOrEqual(28);
    expect(seen.length - 1).toBeLessThanOrEqual(30);
  });

  it("never renews one that does not expire", async () => {
    const { under, seen, pass } = session({ leaseSeconds: 0 });
    await under.token();
    await pass(10_000_000);
    expect(seen).toEqual(["login 0"]);
  });

  it("logs in anew where a token cannot be renewed", async () => {
    const { under, seen, pass } = session({ leaseSeconds: 300, renewable: false });
    const first = await under.token();
    await pass(210, 1);
    expect(kinds(seen)).toEqual(["login", "login"]);
    expect((await under.token()).reveal()).not.toBe(first.reveal());
  });

  it("logs in anew when renewals meet the token's last day, and when Vault does not know it any more", async () => {
    const { under, vault, seen, pass } = session({ leaseSeconds: 300 });
    await under.token();
    vault.renew = () => ({ auth: { lease_duration: 100, renewable: true } });
    await pass(201, 1);
    expect(kinds(seen)).toEqual(["login", "auth/token/renew-self", "login"]);
    vault.renew = () => {
      throw vaultFault("denied", "denies");
    };
    await pass(201, 1);
    expect(kinds(seen).slice(3)).toEqual(["auth/token/renew-self", "login"]);
  });

  it("goes on trying while Vault is away, says so once, and keeps the token meanwhile", async () => {
    const { under, vault, seen, reports, pass } = session({ leaseSeconds: 300 });
    const token = await under.token();
    const renew = vault.renew;
    vault.renew = () => {
      throw vaultFault("unreachable", "cannot be reached");
    };
    await pass(290, 1);
    const tries = seen.length - 1;
    expect(tries).toBeGreaterThan(4);
    expect(tries).toBeLessThan(30);
    expect(reports).toHaveLength(1);
    expect(await under.token()).toBe(token);
    vault.renew = renew;
    await pass(60, 1);
    expect(await under.token()).toBe(token);
    expect(seen.length - 1).toBe(tries + 1);
  });

  it("replaces a denied token once for all who hold it, and not again when the new one is denied too", async () => {
    const { under, seen, clock } = session({ leaseSeconds: 300 });
    const token = await under.token();
    const others = await Promise.all(Array.from({ length: 20 }, () => under.instead(token)));
    const [other] = others;
    expect(other).toBeDefined();
    expect(new Set(others).size).toBe(1);
    expect(seen).toHaveLength(2);
    if (other === undefined) return;
    expect(await under.instead(other)).toBeUndefined();
    expect(await under.instead(token)).toBe(other);
    clock.advance(10_000);
    expect(await under.instead(other)).toBeDefined();
    expect(seen).toHaveLength(3);
  });

  it("does not repeat a refused login for 10 s, and one that met no Vault at once", async () => {
    const { under, vault, clock } = session({ leaseSeconds: 300 });
    const logIn = vault.login;
    let tries = 0;
    const failing = (error: KeyturnError) => () => {
      tries += 1;
      throw error;
    };
    vault.login = failing(vaultFault("unreachable", "cannot be reached"));
    for (let n = 0; n < 3; n += 1) await expect(under.token()).rejects.toBeInstanceOf(KeyturnError);
    expect(tries).toBe(3);
    vault.login = failing(vaultFault("login_refused", "refuses"));
    for (let n = 0; n < 3; n += 1) {
      await expect(under.token()).rejects.toMatchObject({ metadata: { cause: "login_refused" } });
    }
    expect(tries).toBe(4);
    vault.login = logIn;
    clock.advance(9_999);
    await expect(under.token()).rejects.toBeInstanceOf(KeyturnError);
    clock.advance(1);
    expect(await under.token()).toBeInstanceOf(Secret);
  });

  it("renews nothing once it is closed", async () => {
    const { under, seen, pass } = session({ leaseSeconds: 5 });
    await under.token();
    under.close();
    await pass(100);
    expect(seen).toEqual(["login 0"]);
  });
});
