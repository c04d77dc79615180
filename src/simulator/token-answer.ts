import { type Answer, json } from "./answer.ts";
import type { Bend } from "./endpoint.ts";
import type { ExpiresInLie } from "./faults.ts";
import type { Issued } from "./grants.ts";

/** A hundred years, in seconds: no vendor means that. */
const TOO_LONG_SECONDS = 3_155_760_000;

/** The success answer of RFC 6749 §5.1, bent as the faults say. */
export function tokenAnswer(issued: Issued, nowMs: number, bend: Bend): Answer {
  const { accessToken, refreshToken, expiresAtMs, scope } = issued;
  const leftMs = Math.max(0, expiresAtMs - nowMs);
  return json(200, {
    access_token: accessToken,
    token_type: "Bearer",
    ...lifetime(bend("expires_in")?.as, leftMs, expiresAtMs),
    ...(refreshToken === undefined ? {} : { refresh_token: refreshToken }),
    ...(scope === "" ? {} : { scope }),
  });
}

function lifetime(
  lie: ExpiresInLie | undefined,
  leftMs: number,
  expiresAtMs: number,
): Record<string, unknown> {
  const seconds = Math.floor(leftMs / 1000);
  switch (lie) {
    case undefined:
      return { expires_in: seconds };
    case "absent":
      return {};
    case "string":
      return { expires_in: `${seconds}` };
    case "ms":
      return { expires_in: leftMs };
    case "absolute":
      return { expires_at: Math.floor(expiresAtMs / 1000) };
    case "zero":
      return { expires_in: 0 };
    case "negative":
      return { expires_in: -seconds - 1 };
    case "too_long":
      return { expires_in: TOO_LONG_SECONDS };
    case "nonsense":
      return { expires_in: "soon" };
  }
}
