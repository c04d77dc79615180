import { Duplex } from "node:stream";
import { create, type DescMethod, type DescService, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Authorization } from "../../src/gen/envoy/service/auth/v3/external_auth_pb.js";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { AuditService } from "../../src/gen/keyturn/v1/audit_service_pb.js";
import { ConnectionService } from "../../src/gen/keyturn/v1/connection_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { EventService } from "../../src/gen/keyturn/v1/event_service_pb.js";
import { JournalService } from "../../src/gen/keyturn/v1/journal_service_pb.js";
import { KeyService } from "../../src/gen/keyturn/v1/key_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { ProviderService } from "../../src/gen/keyturn/v1/provider_service_pb.js";
import { reasonOf, type Scene, scene } from "../e2e/harness.ts";
import { arbitraryMessage } from "./arbitrary-message.ts";

const DATA: readonly DescService[] = [CredentialService, EventService, ConnectionService, Authorization];
const ADMIN: readonly DescService[] = [
  AccountService,
  OAuthClientService,
  JournalService,
  KeyService,
  ProviderService,
  AuditService,
];
const RUNS = 25;
/** A stream that has nothing to say yet is left then. */
const LISTEN_MS = 150;
const DEADLINE_MS = 5_000;

let at: Scene;
let data: Client;
let admin: Client;

beforeAll(async () => {
  at = await scene();
  await at.connect("acme");
  const options = { "grpc.use_local_subchannel_pool": 1 };
  data = new Client(at.targets.data, credentials.createInsecure(), options);
  admin = new Client(at.targets.admin, credentials.createInsecure(), options);
}, 30_000);

afterAll(async () => {
  data?.close();
  admin?.close();
  await at?.stop();
});

/** Undefined: it was answered, or said nothing against it. */
function call(
  client: Client,
  method: DescMethod,
  requests: readonly Buffer[],
): Promise<ServiceError | undefined> {
  const path = `/${method.parent.typeName}/${method.name}`;
  const same = (bytes: Buffer) => bytes;
  const deadline = { deadline: Date.now() + DEADLINE_MS };
  const [first = Buffer.alloc(0)] = requests;
  return new Promise((resolve) => {
    const done = (error?: ServiceError | null) => resolve(error ?? undefined);
    if (method.methodKind === "unary") {
      client.makeUnaryRequest(path, same, same, first, deadline, done);
      return;
    }
    const stream =
      method.methodKind === "server_streaming"
        ? client.makeServerStreamRequest(path, same, same, first, deadline)
        : client.makeBidiStreamRequest(path, same, same, deadline);
    stream.on("data", () => undefined);
    stream.on("error", done);
    stream.on("end", () => setImmediate(done));
    if (stream instanceof Duplex) {
      for (const bytes of requests) stream.write(bytes);
      stream.end();
    }
    const leave = setTimeout(() => {
      done();
      stream.cancel();
    }, LISTEN_MS);
    stream.on("end", () => clearTimeout(leave));
    stream.on("error", () => clearTimeout(leave));
  });
}

const UNCLEAN: readonly (status | undefined)[] = [status.INTERNAL, status.UNKNOWN, status.DATA_LOSS];

/** What is wrong with an answer; undefined: nothing. */
function faultOf(error: ServiceError | undefined): string | undefined {
  if (error === undefined) return undefined;
  const reason = reasonOf(error);
  const shown = `${status[error.code]} ${reason}: ${error.details.slice(0, 200)}`;
  if (UNCLEAN.includes(error.code)) return shown;
  return /^[A-Z_]+$/.test(reason) ? undefined : `without a reason: ${shown}`;
}

function requestsOf(method: DescMethod): fc.Arbitrary<readonly Buffer[]> {
  const whole = arbitraryMessage(method.input).map((init) =>
    Buffer.from(toBinary(method.input, create(method.input, init))),
  );
  const torn = fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes));
  const one = fc.oneof({ weight: 9, arbitrary: whole }, { weight: 1, arbitrary: torn });
  const isStream = method.methodKind === "bidi_streaming" || method.methodKind === "client_streaming";
  return isStream ? fc.array(one, { maxLength: 4 }) : one.map((bytes) => [bytes]);
}

const methods = [
  ...DATA.flatMap((service) => service.methods.map((method) => ["data", method] as const)),
  ...ADMIN.flatMap((service) => service.methods.map((method) => ["admin", method] as const)),
];

describe("arbitrary messages over a real listener", () => {
  it.each(
    methods.map(([listener, method]) => [`${method.parent.name}/${method.name}`, listener, method] as const),
  )(
    "to %s are answered, or refused with a clean code and a reason",
    async (_name, listener, method) => {
      const client = listener === "data" ? data : admin;
      await fc.assert(
        fc.asyncProperty(requestsOf(method), async (requests) => {
          expect(faultOf(await call(client, method, requests))).toBeUndefined();
        }),
        { numRuns: RUNS, endOnFailure: true },
      );
    },
    60_000,
  );

  it("are refused in a few headers' worth, so that other calls on the connection go on", async () => {
    const huge = { accountId: "é".repeat(100_000) };
    const [refused, listed] = await Promise.allSettled([
      at.admin.call(AccountService.method.getAccount, huge),
      at.admin.call(AccountService.method.listAccounts, {}),
    ]);
    expect(refused.status === "rejected" ? reasonOf(refused.reason) : "").toBe("ACCOUNT_NOT_FOUND");
    expect(listed.status).toBe("fulfilled");
  });

  it("have left nothing half-written behind: every account there is opens, or says why not", async () => {
    const { accounts } = await at.admin.call(AccountService.method.listAccounts, { pageSize: 1_000 });
    for (const { id, slots } of accounts) {
      for (const { name } of slots) {
        const ask = { accountId: id, tokenName: name };
        const error = await at.data.call(CredentialService.method.getToken, ask).then(
          () => undefined,
          (failure: ServiceError) => failure,
        );
        expect(faultOf(error), id).toBeUndefined();
      }
      const { account } = await at.admin.call(AccountService.method.getAccount, { accountId: id });
      expect(account?.id).toBe(id);
    }
    expect(at.logs.filter((line) => line.includes('"call failed"'))).toEqual([]);
  }, 30_000);
});
