import { join } from "node:path";
import { onTestFinished } from "vitest";
import { parse } from "yaml";
import { systemClock } from "../../src/clock.ts";
import { startSimulator } from "../../src/simulator/simulator.ts";
import { startEnvoy } from "../backends/envoy.ts";
import { freePorts } from "../backends/ports.ts";
import { connectAccount, type GrantOptions, putSimulatorClient } from "../e2e/harness.ts";
import { serve } from "../e2e/serving-process.ts";
import { tempFolder } from "../fakes/temp-folder.ts";
import { envoyFile } from "./authz/envoy-file.ts";
import { PROVIDERS as AUTHZ_PROVIDERS, sendTo } from "./authz/stage.ts";
import { startApi as startSecureApi } from "./authz/vendor.ts";
import { startApi } from "./proxy/api.ts";
import { PROVIDERS as PROXY_PROVIDERS } from "./proxy/stage.ts";

/** A sidecar in a process of its own, the APIs that it is used at, and a real Envoy before it; all end with the test. */
export async function doors({ config = "" }: { readonly config?: string } = {}) {
  const simulator = await startSimulator({ clock: systemClock() });
  onTestFinished(() => simulator.close());
  const [api, secureApi] = [await startApi(), await startSecureApi()];
  onTestFinished(() => api[Symbol.asyncDispose]());
  onTestFinished(() => secureApi[Symbol.asyncDispose]());
  const stateDir = tempFolder();
  const providers = `providers: { directories: [${PROXY_PROVIDERS}, ${AUTHZ_PROVIDERS}] }`;
  const { data, admin, child } = await serve({ stateDir, config: `${providers}\n${config}` });
  const [port = 0, grpcPort = 0] = await freePorts(2);
  const socket = `unix:${join(stateDir, "s-data.sock")}`;
  const envoy = await startEnvoy(parse(envoyFile({ data: socket, port, grpcPort, apiPort: secureApi.port })));
  onTestFinished(() => envoy.stop());
  for (const provider of ["api", "oauth"]) await putSimulatorClient(admin, {}, provider);
  return {
    /** What Proxy calls. */
    api,
    /** What Envoy sends to. */
    secureApi,
    simulator,
    data,
    admin,
    child,
    /** An account of `api`, for Proxy, or of `oauth`, for Envoy. */
    have: (id: string, provider: "api" | "oauth", grant: GrantOptions = {}) =>
      connectAccount(admin, simulator, id, {
        provider,
        ...(provider === "api" ? { fields: { api: String(api.port) } } : {}),
        ...grant,
      }),
    throughEnvoy: (account: string) => sendTo(port, "/", { "x-keyturn-account": account }),
    /** How often the token endpoint was asked for this account. */
    asked: (id: string) => simulator.history().filter(({ subject }) => subject === id).length,
  };
}
