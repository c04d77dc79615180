import { create, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import {
  CredentialService,
  GetTokenRequestSchema,
  GetTokenResponseSchema,
} from "../../src/gen/keyturn/v1/credential_service_pb.js";

// What a sidecar that did nothing at all would cost: grpc-js and protobuf-es, the same request, the same answer.
// node echo-server SOCKET ANSWER: the answer is a GetTokenResponse in base64.

type Request = MessageShape<typeof GetTokenRequestSchema>;
type Response = MessageShape<typeof GetTokenResponseSchema>;

const [socket = "", encoded = ""] = process.argv.slice(2);
const payload = fromBinary(GetTokenResponseSchema, Buffer.from(encoded, "base64"));
const { getToken } = CredentialService.method;

const server = new Server();
server.addService(
  {
    getToken: {
      path: `/${CredentialService.typeName}/${getToken.name}`,
      requestStream: false,
      responseStream: false,
      requestSerialize: (request: Request) => Buffer.from(toBinary(GetTokenRequestSchema, request)),
      requestDeserialize: (bytes: Buffer) => fromBinary(GetTokenRequestSchema, bytes),
      responseSerialize: (response: Response) => Buffer.from(toBinary(GetTokenResponseSchema, response)),
      responseDeserialize: (bytes: Buffer) => fromBinary(GetTokenResponseSchema, bytes),
    },
  },
  {
    getToken: (_call: unknown, callback: (error: null, response: Response) => void) =>
      callback(null, create(GetTokenResponseSchema, payload)),
  },
);
server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
  process.stderr.write('{"message":"ready"}\n');
});
