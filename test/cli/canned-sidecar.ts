import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.js";
import { AccountService } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { AuditService } from "../../src/gen/keyturn/v1/audit_service_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";
import { EventService } from "../../src/gen/keyturn/v1/event_service_pb.js";
import { JournalService } from "../../src/gen/keyturn/v1/journal_service_pb.js";
import { KeyService } from "../../src/gen/keyturn/v1/key_service_pb.js";
import { OAuthClientService } from "../../src/gen/keyturn/v1/oauth_client_service_pb.js";
import { ProviderService } from "../../src/gen/keyturn/v1/provider_service_pb.js";

const DATA: readonly DescService[] = [CredentialService, EventService];
const ADMIN: readonly DescService[] = [
  AccountService,
  AuditService,
  JournalService,
  KeyService,
  OAuthClientService,
  ProviderService,
];

export interface Seen {
  readonly rpc: string;
  readonly request: unknown;
  readonly authorization: unknown;
}

/** A sidecar that gives the answers it was told to, on real sockets. */
export interface CannedSidecar {
  readonly directory: string;
  readonly sockets: { readonly data: string; readonly admin: string };
  readonly seen: readonly Seen[];
  /** A stream gives all of them, unary calls one after the other and the last one again and again. */
  answer<I extends DescMessage, O extends DescMessage>(
    method: DescMethod & { readonly input: I; readonly output: O },
    ...answers: readonly (MessageInitShape<O> | ServiceError | "hang")[]
  ): void;
  stop(): Promise<void>;
}

export async function cannedSidecar(): Promise<CannedSidecar> {
  const directory = mkdtempSync(join(tmpdir(), "kt-cli-"));
  const sockets = { data: join(directory, "data.sock"), admin: join(directory, "admin.sock") };
  const answers = new Map<string, unknown[]>();
  const seen: Seen[] = [];
  const start = async (services: readonly DescService[], socket: string) => {
    const server = new Server();
    for (const service of services) add(server, service, answers, seen);
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    return server;
  };
  const servers = await Promise.all([start(DATA, sockets.data), start(ADMIN, sockets.admin)]);
  return {
    directory,
    sockets,
    seen,
    answer: (method, ...canned) => {
      answers.set(rpcOf(method), [...canned]);
    },
    stop: async () => {
      for (const server of servers) server.forceShutdown();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** An error as the sidecar sends it: google.rpc.Status with its details. */
export function refusal(
  code: number,
  reason: string,
  message: string,
  more: {
    metadata?: Record<string, string>;
    retryAfterMs?: number;
    violations?: { field: string; description: string }[];
  } = {},
): ServiceError {
  const details = [
    anyPack(
      ErrorInfoSchema,
      create(ErrorInfoSchema, { reason, domain: "keyturn.dev", metadata: more.metadata ?? {} }),
    ),
  ];
  if (more.retryAfterMs !== undefined) {
    const retryDelay = durationFromMs(more.retryAfterMs);
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
  }
  if (more.violations !== undefined) {
    const bad = create(BadRequestSchema, { fieldViolations: more.violations });
    details.push(anyPack(BadRequestSchema, bad));
  }
  const metadata = new Metadata();
  const body = toBinary(StatusSchema, create(StatusSchema, { code, message, details }));
  metadata.set("grpc-status-details-bin", Buffer.from(body));
  return Object.assign(new Error(message), { code, details: message, metadata });
}

function rpcOf(method: DescMethod): string {
  return `${method.parent.name}/${method.name}`;
}

function add(
  server: Server,
  service: DescService,
  answers: ReadonlyMap<string, unknown[]>,
  seen: Seen[],
): void {
  const definition: Record<string, MethodDefinition<unknown, Buffer>> = {};
  const implementation: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    definition[method.name] = {
      path: `/${service.typeName}/${method.name}`,
      requestStream: false,
      responseStream: method.methodKind === "server_streaming",
      requestSerialize: () => Buffer.alloc(0),
      requestDeserialize: (bytes) => fromBinary(method.input, bytes),
      responseSerialize: (bytes) => bytes,
      responseDeserialize: (bytes) => bytes,
    };
    const encode = (answer: unknown) =>
      Buffer.from(toBinary(method.output, create(method.output, answer as Record<string, unknown>)));
    const note = (call: ServerUnaryCall<unknown, Buffer> | ServerWritableStream<unknown, Buffer>) => {
      const [authorization] = call.metadata.get("authorization");
      seen.push({ rpc: rpcOf(method), request: call.request, authorization });
      return answers.get(rpcOf(method)) ?? [];
    };
    implementation[method.name] =
      method.methodKind === "server_streaming"
        ? (call: ServerWritableStream<unknown, Buffer>) => {
            for (const answer of note(call)) {
              if (answer === "hang") return;
              if (answer instanceof Error) return void call.emit("error", answer);
              call.write(encode(answer));
            }
            call.end();
          }
        : (call: ServerUnaryCall<unknown, Buffer>, callback: sendUnaryData<Buffer>) => {
            const canned = note(call);
            // The last answer is given again and again.
            const answer = canned.length > 1 ? canned.shift() : canned[0];
            if (answer === "hang") return;
            if (answer instanceof Error) callback(answer as ServiceError);
            else callback(null, encode(answer ?? {}));
          };
  }
  server.addService(definition, implementation);
}
