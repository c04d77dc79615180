import { interpretExchange } from "../../src/providers/interpret.ts";
import type { Provider } from "../../src/providers/provider.ts";
import { Secret } from "../../src/tokens/secret.ts";
import type { RawAnswer } from "../../src/tokens/vendor.ts";
import { answerOf, contextOf, NOW_MS, oauthCredential, shipped } from "../providers/stage.ts";
import type { Benchmark } from "./bench.ts";
import { alternate, median, spread } from "./rounds.ts";

const ROUNDS = 15;
const READINGS = 2_000;

/** Answers as they come, each with the file that reads it and what plain code for this vendor alone would do. */
const CASES: readonly {
  readonly what: string;
  readonly provider: string;
  readonly answer: RawAnswer;
  readonly plain: (body: Body) => unknown;
}[] = [
  {
    what: "a refusal, its code cut out of a sentence by a regular expression",
    provider: "microsoft",
    answer: answerOf(400, {
      error: "invalid_grant",
      error_description: `AADSTS700082: ${"The refresh token has expired due to inactivity. ".repeat(4)}`,
      error_codes: [700_082],
    }),
    plain: ({ error, error_description: text = "" }) => {
      const code = /AADSTS([0-9]+)/.exec(text)?.[1];
      const reauth = ["700082", "50173", "70043", "50078", "50076", "50079", "50057"];
      return { class: reauth.includes(code ?? "") ? "reauth" : error, code };
    },
  },
  {
    what: "a refusal under another vendor's names",
    provider: "hubspot",
    answer: answerOf(400, { status: "BAD_HUB", message: "the portal was deleted", correlationId: "c" }),
    plain: ({ status, message }) => ({
      class: status === "BAD_HUB" || status === "BAD_REFRESH_TOKEN" ? "reauth" : undefined,
      code: status,
      message,
    }),
  },
  {
    what: "a grant with fields of its own",
    provider: "zoho-crm",
    answer: answerOf(200, {
      access_token: "a".repeat(70),
      scope: "ZohoCRM.modules.ALL",
      api_domain: "https://www.zohoapis.eu",
      token_type: "Bearer",
      expires_in: 3_600,
    }),
    plain: (body) => ({
      accessToken: new Secret(body.access_token),
      expiresAtMs: NOW_MS + Number(body.expires_in) * 1_000,
      scopes: body.scope?.split(" "),
      apiDomain: body.api_domain,
    }),
  },
];

type Body = Record<
  "error" | "error_description" | "status" | "message" | "scope" | "api_domain",
  string | undefined
> & {
  readonly access_token: string;
  readonly expires_in: number;
};

/** What it costs that vendors are data. */
export const readingsBenchmark: Benchmark = {
  name: "readings",
  what: "Reading a token endpoint's answer by its provider file (JSONata), against code written for that vendor alone.",
  async run() {
    const figures = [];
    for (const { what, provider, answer, plain } of CASES) {
      const { file, code } = await alternate(ROUNDS, {
        file: microseconds(() => byFile(shipped(provider), answer)),
        code: microseconds(() => async () => plain(JSON.parse(Buffer.from(answer.body).toString("utf8")))),
      });
      figures.push(
        { name: `${provider}: ${what}`, value: median(file), unit: "µs", note: spread(file, 1) },
        { name: `${provider}: plain code`, value: median(code), unit: "µs", note: spread(code, 2) },
        { name: `${provider}: by file against plain code`, value: median(file) / median(code), unit: "" },
      );
    }
    return figures;
  },
};

function byFile(provider: Provider, answer: RawAnswer): () => Promise<unknown> {
  const context = contextOf(provider.name, {}, oauthCredential());
  const outside = { send: async () => ({ kind: "not_sent", cause: "bench" }) as const, now: () => NOW_MS };
  return () => interpretExchange(outside, provider, { context, answers: [answer] });
}

function microseconds(make: () => () => Promise<unknown>): () => Promise<number> {
  const work = make();
  return async () => {
    const startMs = performance.now();
    for (let n = 0; n < READINGS; n += 1) await work();
    return ((performance.now() - startMs) * 1_000) / READINGS;
  };
}
