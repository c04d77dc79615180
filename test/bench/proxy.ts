import { once } from "node:events";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import {
  CredentialService,
  ProxyRequestSchema,
  type ProxyStreamResponse,
} from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { Caller } from "../e2e/harness.ts";
import type { BareServer, Bench, Benchmark, Sidecar } from "./bench.ts";
import type { Figure } from "./figure.ts";
import { framed, load } from "./load.ts";
import { alternate, median, ratios, spread } from "./rounds.ts";
import { ServerProcess } from "./server-process.ts";

const ID = "acct-proxied";
const TOKEN = "x".repeat(600);
const ROUNDS = 12;
const ROUND_MS = 700;
const IN_FLIGHT = 32;
const CONNECTIONS = 4;
const STREAM_ROUNDS = 8;
const STREAM_BYTES = 64 * 1024 * 1024;
const CHUNK = Buffer.alloc(65_536, "y");

/** Compared with a server of the same libraries that forwards and promises nothing. */
export const proxyBenchmark: Benchmark = {
  name: "proxy",
  what: "Proxy and ProxyStream against a bare grpc-js handler that forwards with undici's own pool, to the same API.",
  async run(bench) {
    const api = new ServerProcess([join(import.meta.dirname, "api-server.ts")], { isProbed: false });
    const port = (await api.says(/port \d+(?=\n)/)).slice("port ".length);
    try {
      const ours = await bench.sidecarWithClient();
      await connect(ours, port);
      const bare = await bench.forwarder(`http://127.0.0.1:${port}`, TOKEN);
      return [
        ...(await whole(bench, ours, bare, "1 KB", 1_024)),
        ...(await whole(bench, ours, bare, "64 KB", 65_536)),
        ...(await streams(ours, bare, "download", download)),
        ...(await streams(ours, bare, "upload", upload)),
      ];
    } finally {
      await api.stop();
    }
  },
};

async function connect({ admin }: Sidecar, port: string): Promise<void> {
  const expireTime = { seconds: BigInt(Math.floor(Date.now() / 1_000) + 36_000), nanos: 0 };
  await admin.call(AccountService.method.createAccount, {
    accountId: ID,
    tenant: "acme",
    provider: "simulator",
    client: "main",
    fields: { port },
    credential: {
      kind: { case: "oauth", value: { accessToken: TOKEN, refreshToken: "never-used", expireTime } },
    },
  });
}

async function whole(
  bench: Bench,
  ours: BareServer,
  bare: BareServer,
  size: string,
  bytes: number,
): Promise<readonly Figure[]> {
  const request = create(ProxyRequestSchema, {
    accountId: ID,
    method: "GET",
    path: `/bytes/${bytes}`,
    query: [{ name: "page", value: "2" }],
    headers: [{ name: "accept", value: "application/json" }],
  });
  const frame = framed(toBinary(ProxyRequestSchema, request));
  const path = `/${CredentialService.typeName}/${CredentialService.method.proxy.name}`;
  const slice = ({ process, data }: BareServer) => {
    const lines = bench.lines(data, CONNECTIONS);
    return async () => {
      const before = await process.ask("usage");
      const done = await load(lines, [frame], { inFlight: IN_FLIGHT, forMs: ROUND_MS, path });
      const after = await process.ask("usage");
      return {
        perSecond: (done.requests * 1_000) / done.elapsedMs,
        cpuMicros: (after.cpuMicros - before.cpuMicros) / done.requests,
      };
    };
  };
  const results = await alternate(ROUNDS, { ours: slice(ours), bare: slice(bare) });
  const byRate = ratios(results.ours, results.bare, ({ perSecond }) => perSecond);
  const byCpu = ratios(results.bare, results.ours, ({ cpuMicros }) => cpuMicros);
  const of = (who: "ours" | "bare"): Figure => ({
    name: `Proxy of ${size}: ${who}`,
    value: median(results[who].map(({ perSecond }) => perSecond)),
    unit: "requests/s",
    note: `${median(results[who].map(({ cpuMicros }) => cpuMicros)).toFixed(0)} µs CPU each`,
  });
  return [
    {
      name: `Proxy of ${size}, requests/s: ours / bare`,
      value: median(byRate),
      unit: "",
      aim: { atLeast: 0.8 },
      note: spread(byRate),
    },
    {
      name: `Proxy of ${size}, server CPU: bare / ours`,
      value: median(byCpu),
      unit: "",
      note: spread(byCpu),
    },
    of("ours"),
    of("bare"),
  ];
}

async function streams(
  ours: BareServer,
  bare: BareServer,
  name: string,
  pass: (caller: Caller) => Promise<void>,
): Promise<readonly Figure[]> {
  const callers = { ours: new Caller(ours.data), bare: new Caller(bare.data) };
  const slice = (caller: Caller) => async () => {
    const startMs = performance.now();
    await pass(caller);
    return STREAM_BYTES / 1_000 / (performance.now() - startMs);
  };
  try {
    const results = await alternate(STREAM_ROUNDS, { ours: slice(callers.ours), bare: slice(callers.bare) });
    const byRate = ratios(results.ours, results.bare, (mbPerSecond) => mbPerSecond);
    return [
      {
        name: `ProxyStream ${name}, MB/s: ours / bare`,
        value: median(byRate),
        unit: "",
        aim: { atLeast: 0.8 },
        note: spread(byRate),
      },
      { name: `ProxyStream ${name}: ours`, value: median(results.ours), unit: "MB/s" },
      { name: `ProxyStream ${name}: bare`, value: median(results.bare), unit: "MB/s" },
    ];
  } finally {
    callers.ours.close();
    callers.bare.close();
  }
}

async function download(caller: Caller): Promise<void> {
  const call = caller.duplex(CredentialService.method.proxyStream);
  call.write({
    part: { case: "head", value: { accountId: ID, method: "GET", path: `/bytes/${STREAM_BYTES}` } },
  });
  call.end();
  let bytes = 0;
  for await (const { part } of call as AsyncIterable<ProxyStreamResponse>) {
    if (part.case === "chunk") bytes += part.value.length;
  }
  if (bytes !== STREAM_BYTES) throw new Error(`${bytes} bytes came of ${STREAM_BYTES}`);
}

async function upload(caller: Caller): Promise<void> {
  const call = caller.duplex(CredentialService.method.proxyStream);
  const statuses: number[] = [];
  call.on("data", ({ part }: ProxyStreamResponse) => {
    if (part.case === "head") statuses.push(part.value.status);
  });
  const ended = once(call, "end");
  call.write({ part: { case: "head", value: { accountId: ID, method: "PUT", path: "/file" } } });
  for (let sent = 0; sent < STREAM_BYTES; sent += CHUNK.length) {
    if (!call.write({ part: { case: "chunk", value: CHUNK } })) await once(call, "drain");
  }
  call.end();
  await ended;
  if (statuses[0] !== 200) throw new Error(`the API answered ${statuses[0]}`);
}
