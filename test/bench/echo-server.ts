import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { Authorization } from "../../src/gen/envoy/service/auth/v3/external_auth_pb.js";
import { CredentialService } from "../../src/gen/keyturn/v1/credential_service_pb.js";

// What a sidecar that did nothing at all would cost: grpc-js and protobuf-es, the same request, the same answer.
// node echo-server SOCKET METHOD ANSWER: `getToken` or `check`, and its answer in base64.

type Message = MessageShape<DescMessage>;

const [socket = "", name = "", encoded = ""] = process.argv.slice(2);
const method = name === "check" ? Authorization.method.check : CredentialService.method.getToken;
const { input, output }: { readonly input: DescMessage; readonly output: DescMessage } = method;
const payload = fromBinary(output, Buffer.from(encoded, "base64"));

const server = new Server();
server.addService(
  {
    [name]: {
      path: `/${method.parent.typeName}/${method.name}`,
      requestStream: false,
      responseStream: false,
      requestSerialize: (request: Message) => Buffer.from(toBinary(input, request)),
      requestDeserialize: (bytes: Buffer) => fromBinary(input, bytes),
      responseSerialize: (response: Message) => Buffer.from(toBinary(output, response)),
      responseDeserialize: (bytes: Buffer) => fromBinary(output, bytes),
    },
  },
  {
    [name]: (_call: unknown, callback: (error: null, response: Message) => void) =>
      callback(null, create(output, payload)),
  },
);
server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
  process.stderr.write('{"message":"ready"}\n');
});
