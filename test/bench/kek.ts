import { createCipheriv, randomBytes } from "node:crypto";
import { Agent, request } from "node:http";
import { join } from "node:path";
import { systemClock } from "../../src/clock.ts";
import { openLocalKek } from "../../src/seal/kek/local.ts";
import { openTransitKek } from "../../src/seal/kek/vault/transit.ts";
import type { KekCalls } from "../../src/seal/kek.ts";
import { Secret } from "../../src/tokens/secret.ts";
import { type OpenBao, startOpenBao } from "../backends/openbao.ts";
import type { Benchmark } from "./bench.ts";
import type { Figure } from "./figure.ts";
import { alternate, median, ratios, spread } from "./rounds.ts";

const ROUNDS = 5;
const ROUND_MS = 500;
const IN_FLIGHT = 32;
const DEK = randomBytes(32);
const NEVER = new AbortController().signal;

/** What our way to the KEK costs beside the KEK itself. */
export const kekBenchmark: Benchmark = {
  name: "kek",
  what: `Data keys wrapped and unwrapped through our KEKs against the bare ones: OpenBao asked over kept connections, and AES-256-GCM itself.`,
  async run(bench) {
    const bao = await startOpenBao();
    try {
      await bao.act("POST", "transit/keys/bench", { type: "aes256-gcm96" });
      const auth = { method: "token", token: new Secret(bao.rootToken) } as const;
      const clock = systemClock();
      const { url: address } = bao;
      const kek = openTransitKek({
        address,
        namespace: undefined,
        ca: undefined,
        mount: "transit",
        key: "bench",
        auth,
        clock,
        random: Math.random,
        report: () => undefined,
      });
      const local = await openLocalKek({ file: join(bench.folder(), "keyring.json"), create: true }, clock);
      try {
        return [
          ...(await transit(kek, bao, 1)),
          ...(await transit(kek, bao, IN_FLIGHT)),
          ...(await keyring(local)),
        ];
      } finally {
        kek.close();
      }
    } finally {
      await bao.stop();
    }
  },
};

async function transit(kek: KekCalls, bao: OpenBao, inFlight: number): Promise<readonly Figure[]> {
  const ask = bare(bao);
  const wrapped = await kek.wrap(DEK, NEVER);
  const ciphertext = `vault:v1:${Buffer.from(wrapped.bytes).toString("base64")}`;
  const body = { encrypt: { plaintext: DEK.toString("base64") }, decrypt: { ciphertext } };
  const results = await alternate(ROUNDS, {
    wrap: () => rate(inFlight, () => kek.wrap(DEK, NEVER)),
    bareWrap: () => rate(inFlight, () => ask("encrypt", body.encrypt)),
    unwrap: () => rate(inFlight, () => kek.unwrap(wrapped, NEVER)),
    bareUnwrap: () => rate(inFlight, () => ask("decrypt", body.decrypt)),
  });
  const { wrap, bareWrap, unwrap, bareUnwrap } = results;
  const at = `${inFlight} in flight`;
  return [
    compared(`Transit wrap, ${at}`, wrap, bareWrap),
    compared(`Transit unwrap, ${at}`, unwrap, bareUnwrap),
  ];
}

async function keyring(kek: KekCalls): Promise<readonly Figure[]> {
  const key = randomBytes(32);
  const bareWrap = async () => {
    const cipher = createCipheriv("aes-256-gcm", key, randomBytes(12), { authTagLength: 16 });
    return Buffer.concat([cipher.update(DEK), cipher.final(), cipher.getAuthTag()]);
  };
  const { ours, bareOnes } = await alternate(ROUNDS, {
    ours: () => rate(1, () => kek.wrap(DEK, NEVER)),
    bareOnes: () => rate(1, bareWrap),
  });
  return [compared("keyring wrap", ours, bareOnes)];
}

function compared(name: string, ours: readonly number[], theirs: readonly number[]): Figure {
  const shares = ratios(ours, theirs, (perSecond) => perSecond);
  const note = `${median(ours).toFixed(0)} against ${median(theirs).toFixed(0)} a second; ${spread(shares)}`;
  return { name, value: median(shares), unit: "of the bare rate", note };
}

/** Calls a second, with so many of them waiting at any time. */
async function rate(inFlight: number, call: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  let calls = 0;
  const lane = async () => {
    while (performance.now() - startMs < ROUND_MS) {
      await call();
      calls += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  return (calls * 1_000) / (performance.now() - startMs);
}

/** OpenBao asked without anything of ours between. */
function bare({ url, rootToken }: OpenBao): (operation: string, body: object) => Promise<unknown> {
  const agent = new Agent({ keepAlive: true });
  return (operation, body) => {
    const bytes = JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const headers = { "x-vault-token": rootToken, "content-length": Buffer.byteLength(bytes) };
      const sent = request(`${url}/v1/transit/${operation}/bench`, { method: "POST", agent, headers });
      sent.once("error", reject);
      sent.once("response", async (response) => {
        const chunks: Buffer[] = await response.toArray();
        resolve(JSON.parse(Buffer.concat(chunks).toString("utf8")));
      });
      sent.end(bytes);
    });
  };
}
