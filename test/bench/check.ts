import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  Authorization,
  CheckRequestSchema,
  CheckResponseSchema,
} from "../../src/gen/envoy/service/auth/v3/external_auth_pb.js";
import type { Benchmark } from "./bench.ts";
import { warm } from "./get-token.ts";
import { answered, framed } from "./load.ts";

const ID = "acct-warm";
const TOKEN_LENGTH = 600;
const AIM = { atLeast: 0.85 };
const PATH = `/${Authorization.typeName}/${Authorization.method.check.name}`;

/** As Envoy sends it with `deploy/envoy/envoy.yaml`. */
function request(host: string): Buffer {
  const socket = (address: string, port: number) => ({
    address: {
      address: {
        case: "socketAddress" as const,
        value: { address, portSpecifier: { case: "portValue" as const, value: port } },
      },
    },
  });
  const http = {
    id: "12595233647972534554",
    method: "GET",
    host,
    path: "/crm/v3/objects/contacts?limit=100&properties=email",
    scheme: "http",
    protocol: "HTTP/1.1",
    headers: { "x-keyturn-account": ID },
    size: -1n,
  };
  const message = create(CheckRequestSchema, {
    attributes: {
      source: socket("127.0.0.1", 45_678),
      destination: socket("127.0.0.1", 10_000),
      request: { time: timestampFromMs(1_767_225_600_000), http },
      contextExtensions: { account_header: "x-keyturn-account", tenant_glob: "acme" },
      metadataContext: {},
      routeMetadataContext: {},
    },
  });
  return framed(toBinary(CheckRequestSchema, message));
}

/** Compared with a server of the same libraries that does nothing. */
export const checkBenchmark: Benchmark = {
  name: "check",
  what: "A warm Check against a bare grpc-js and protobuf-es server that gives the same answer to the same request.",
  async run(bench) {
    const sidecar = await bench.sidecarWithClient();
    const vendor = await bench.vendor();
    await vendor.connect(sidecar, ID, { accessTokenLength: TOKEN_LENGTH });
    const frame = request(`127.0.0.1:${vendor.port}`);
    const [first] = bench.lines(sidecar.data, 1);
    if (first === undefined) return [];
    const answer = await answered(first, frame, PATH);
    const { httpResponse } = fromBinary(CheckResponseSchema, answer);
    if (httpResponse.case !== "okResponse") throw new Error("Check lets nothing through");
    const echo = await bench.echo(answer, "check");
    return warm(bench, { ours: sidecar, bare: echo }, { frame, path: PATH, aim: AIM });
  },
};
