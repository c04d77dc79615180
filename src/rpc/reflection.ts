import {
  create,
  type DescFile,
  type DescMessage,
  type DescService,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { type Server, type ServerDuplexStream, status } from "@grpc/grpc-js";
import { file_google_rpc_error_details } from "../gen/google/rpc/error_details_pb.js";
import {
  ServerReflection,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.js";
import { file_keyturn_v1_errors } from "../gen/keyturn/v1/errors_pb.js";

type Stream = ServerDuplexStream<Buffer, Buffer>;

/** gRPC server reflection, v1 and v1alpha (the same messages under two names), so that grpcurl needs no proto files. */
export function addReflection(server: Server, services: readonly DescService[]): void {
  // Errors carry these, and a tool can show only what it is told of.
  const inDetails = [file_google_rpc_error_details, file_keyturn_v1_errors];
  const files = filesOf([...services.map((service) => service.file), ...inDetails]);
  const symbols = symbolsOf(files);
  for (const service of [ServerReflection, ServerReflectionAlpha]) {
    const method = service.method.serverReflectionInfo;
    const definition = {
      path: `/${service.typeName}/${method.name}`,
      requestStream: true,
      responseStream: true,
      requestSerialize: (bytes: Buffer) => bytes,
      requestDeserialize: (bytes: Buffer) => bytes,
      responseSerialize: (bytes: Buffer) => bytes,
      responseDeserialize: (bytes: Buffer) => bytes,
    } as const;
    const serve = (stream: Stream) => {
      stream.on("data", (bytes: Buffer) => stream.write(answer(bytes, services, files, symbols)));
      stream.on("end", () => stream.end());
    };
    server.addService({ [method.name]: definition }, { [method.name]: serve });
  }
}

function answer(
  bytes: Buffer,
  services: readonly DescService[],
  files: ReadonlyMap<string, DescFile>,
  symbols: ReadonlyMap<string, DescFile>,
): Buffer {
  const originalRequest = fromBinary(ServerReflectionRequestSchema, bytes);
  const { messageRequest } = originalRequest;
  const reply = (messageResponse: Parameters<typeof responseOf>[1]) =>
    Buffer.from(responseOf(originalRequest, messageResponse));
  switch (messageRequest.case) {
    case "listServices":
      return reply({
        case: "listServicesResponse",
        value: { service: services.map(({ typeName }) => ({ name: typeName })) },
      });
    case "fileByFilename":
      return reply(fileResponse(files.get(messageRequest.value)));
    case "fileContainingSymbol":
      return reply(fileResponse(symbols.get(messageRequest.value)));
    default:
      return reply({
        case: "errorResponse",
        value: { errorCode: status.UNIMPLEMENTED, errorMessage: "not offered by this server" },
      });
  }
}

function fileResponse(file: DescFile | undefined): Parameters<typeof responseOf>[1] {
  if (file === undefined)
    return { case: "errorResponse", value: { errorCode: status.NOT_FOUND, errorMessage: "not found" } };
  const fileDescriptorProto = [...filesOf([file]).values()].map(({ proto }) =>
    toBinary(FileDescriptorProtoSchema, proto),
  );
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

type Response = NonNullable<Parameters<typeof create<typeof ServerReflectionResponseSchema>>[1]>;

function responseOf(
  originalRequest: NonNullable<Response["originalRequest"]>,
  messageResponse: NonNullable<Response["messageResponse"]>,
): Uint8Array {
  const { host = "" } = originalRequest;
  return toBinary(
    ServerReflectionResponseSchema,
    create(ServerReflectionResponseSchema, { validHost: host, originalRequest, messageResponse }),
  );
}

/** These files and all they import, each once, imports first. */
function filesOf(roots: readonly DescFile[]): Map<string, DescFile> {
  const found = new Map<string, DescFile>();
  const visit = (file: DescFile) => {
    if (found.has(file.proto.name)) return;
    for (const imported of file.dependencies) visit(imported);
    found.set(file.proto.name, file);
  };
  for (const root of roots) visit(root);
  return found;
}

function symbolsOf(files: ReadonlyMap<string, DescFile>): Map<string, DescFile> {
  const symbols = new Map<string, DescFile>();
  for (const file of files.values()) {
    for (const desc of [...file.messages, ...file.enums, ...file.services]) symbols.set(desc.typeName, file);
    for (const service of file.services)
      for (const method of service.methods) symbols.set(`${service.typeName}.${method.name}`, file);
    for (const message of file.messages) addNested(message, file, symbols);
  }
  return symbols;
}

function addNested(message: DescMessage, file: DescFile, symbols: Map<string, DescFile>): void {
  for (const nested of [...message.nestedMessages, ...message.nestedEnums])
    symbols.set(nested.typeName, file);
  for (const nested of message.nestedMessages) addNested(nested, file, symbols);
}
