import { Agent } from "node:http";
import { parse } from "yaml";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { type Envoy, startEnvoy } from "../backends/envoy.ts";
import { freePorts } from "../backends/ports.ts";
import { envoyFile, HOST } from "../rpc/authz/envoy-file.ts";
import { PROVIDERS } from "../rpc/authz/stage.ts";
import { startApi } from "../rpc/authz/vendor.ts";
import type { Benchmark } from "./bench.ts";
import type { Figure } from "./figure.ts";
import { exchange, latencies } from "./latencies.ts";
import { alternate, quantile } from "./rounds.ts";

const ID = "acct-warm";
const EXT_AUTHZ = "envoy.filters.http.ext_authz";

interface Bootstrap {
  readonly static_resources: {
    readonly listeners: readonly {
      readonly filter_chains: readonly {
        readonly filters: readonly { readonly typed_config: { http_filters: { readonly name: string }[] } }[];
      }[];
    }[];
  };
}

/** The same Envoy as a mere way out. */
function withoutCheck(bootstrap: Bootstrap): Bootstrap {
  for (const { filter_chains } of bootstrap.static_resources.listeners)
    for (const { filters } of filter_chains)
      for (const { typed_config: config } of filters)
        config.http_filters = config.http_filters.filter(({ name }) => name !== EXT_AUTHZ);
  return bootstrap;
}

/** What a request through a real Envoy takes longer for its credential. */
export const envoyBenchmark: Benchmark = {
  name: "envoy",
  what: "Requests through deploy/envoy/envoy.yaml with a warm Check against the same Envoy without one.",
  async run(bench) {
    const sidecar = await bench.sidecar({ set: { "providers.directories": PROVIDERS } });
    const apiKey = "k".repeat(600);
    await sidecar.admin.call(AccountService.method.createAccount, {
      accountId: ID,
      tenant: "acme",
      provider: "headers",
      credential: { kind: { case: "apiKey", value: { apiKey, extra: { app_key: "a" } } } },
    });
    await using api = await startApi();
    const envoys: Envoy[] = [];
    const start = async (edit: (bootstrap: Bootstrap) => Bootstrap) => {
      const [port = 0, grpcPort = 0] = await freePorts(2);
      const file = envoyFile({ data: sidecar.data, port, grpcPort, apiPort: api.port });
      envoys.push(await startEnvoy(edit(parse(file))));
      return port;
    };
    try {
      const ports = { with: await start((bootstrap) => bootstrap), without: await start(withoutCheck) };
      return [...(await compare(ports, 1)), ...(await compare(ports, 16))];
    } finally {
      for (const envoy of envoys) await envoy.stop();
    }
  },
};

async function compare(
  ports: { readonly with: number; readonly without: number },
  inFlight: number,
): Promise<readonly Figure[]> {
  const slice = (port: number) => {
    const agent = new Agent({ keepAlive: true, maxSockets: inFlight });
    const headers = { host: HOST, "x-keyturn-account": ID };
    const call = () => exchange({ host: "127.0.0.1", port, path: "/v1/me", headers, agent });
    return () => latencies(call, { inFlight, forMs: 500 });
  };
  const taken = await alternate(12, { with: slice(ports.with), without: slice(ports.without) });
  const at = (of: readonly (readonly number[])[], q: number) => quantile(of.flat(), q);
  return [0.5, 0.99].map((q) => {
    const [checked, bare] = [at(taken.with, q), at(taken.without, q)];
    return {
      name: `p${q * 100} that Check adds, ${inFlight} in flight`,
      value: checked - bare,
      unit: "ms",
      note: `${checked.toFixed(2)} with, ${bare.toFixed(2)} without; ${taken.with.flat().length} requests`,
    };
  });
}
