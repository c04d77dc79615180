import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { decode, encode } from "../../src/store/codec.ts";
import type { Account } from "../../src/tokens/account.ts";
import type { Credential } from "../../src/tokens/credential.ts";
import type { Kind } from "../../src/tokens/records.ts";
import { Secret } from "../../src/tokens/secret.ts";
import { slotOf } from "../../src/tokens/slot.ts";

// Committed bytes, never made anew: what release 0.1 wrote, and what a release after this one may write.
const fixture = (name: string) =>
  JSON.parse(readFileSync(join(import.meta.dirname, "fixtures", name), "utf8"));
const written: Readonly<Record<Kind, { readonly value: unknown; readonly bytes: string }>> =
  fixture("release-0.1.json");
const newer: {
  readonly unknown_fields: Readonly<Record<"account" | "client" | "breaker", string>>;
  readonly format_2: Readonly<Record<Kind, string>>;
} = fixture("newer-release.json");

const kinds = Object.keys(written) as Kind[];
const bytesOf = (text: string) => Buffer.from(text, "base64");

/** As the fixture writes values down: bytes in base64, undefined members left out. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString("base64") };
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(members.map(([name, member]) => [name, plain(member)]));
}

describe("what release 0.1 stored", () => {
  it.each(kinds)("reads as it was meant: %s", (kind) => {
    expect(plain(decode(kind, bytesOf(written[kind].bytes), kind))).toMatchObject(
      written[kind].value as object,
    );
  });
});

describe("what a newer release stored in the same format", () => {
  it("keeps its fields through a refresh, a label and a switch of this one, in the account and in its slots", () => {
    const account: Account = decode("account", bytesOf(newer.unknown_fields.account), "accounts/x");
    const [name = "", state] = Object.entries(account.slots)[0] ?? [];
    const credential: Credential = {
      kind: "oauth",
      accessToken: new Secret("at"),
      tokenType: "Bearer",
      issuedAtMs: 1,
      expiresAtMs: 2,
      refreshToken: new Secret("rt"),
      refreshTokenExpiresAtMs: undefined,
      scopes: [],
      members: new Secret({}),
    };
    const making = { nowMs: 1, random: 0, rules: undefined, afterRejection: false, minValidityMs: 0 };
    const refreshed = slotOf(state, credential, (state?.generation ?? 0) + 1, making);
    const changed = {
      ...account,
      slots: { ...account.slots, [name]: refreshed },
      labels: { tier: "1" },
      disabled: true,
    };
    const again = Buffer.from(encode("account", changed, "nonce-9"));
    expect(again.includes("of a newer release")).toBe(true);
    const slots = Object.keys(account.slots).length;
    expect(again.toString("latin1").split("of a newer slot")).toHaveLength(slots + 1);
    expect(decode("account", again, "accounts/x")).toMatchObject({ labels: { tier: "1" }, disabled: true });
  });

  it.each(["client", "breaker"] as const)("keeps its fields when this one writes it again: %s", (kind) => {
    const value = decode(kind, bytesOf(newer.unknown_fields[kind]), kind);
    const again = Buffer.from(encode(kind, { ...value } as never, "nonce-9"));
    expect(again.includes("of a newer release")).toBe(true);
  });
});

describe("a format that this release does not know", () => {
  it.each(kinds)("is refused by its number and the record's name: %s", (kind) => {
    const read = () => decode(kind, bytesOf(newer.format_2[kind]), `path/of/${kind}`);
    expect(read).toThrow(
      expect.objectContaining({
        message: expect.stringMatching(new RegExp(`path/of/${kind} has format 2.*newer Keyturn`)),
        metadata: { cause: "record_format_unknown", record: `path/of/${kind}`, format: "2" },
      }),
    );
  });
});
