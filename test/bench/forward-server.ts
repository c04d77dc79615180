import { Readable } from "node:stream";
import { create, type DescMethod, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Server, ServerCredentials, type ServerDuplexStream, type sendUnaryData } from "@grpc/grpc-js";
import { Agent, type Dispatcher } from "undici";
import {
  CredentialService,
  type HttpField,
  type ProxyRequest,
  type ProxyResponse,
  ProxyResponseSchema,
  type ProxyStreamRequest,
  type ProxyStreamResponse,
  ProxyStreamResponseSchema,
} from "../../src/gen/keyturn/v1/credential_service_pb.js";

// What a proxy that promised nothing would cost: grpc-js, protobuf-es and undici's own pool, one fixed token.
// node forward-server SOCKET ORIGIN TOKEN

const [socket = "", origin = "", token = ""] = process.argv.slice(2);
const agent = new Agent({ connections: 64 });

function methodOf({ name, input, output, methodKind }: DescMethod) {
  return {
    path: `/${CredentialService.typeName}/${name}`,
    requestStream: methodKind === "bidi_streaming",
    responseStream: methodKind === "bidi_streaming",
    requestSerialize: (message: MessageShape<typeof input>) => Buffer.from(toBinary(input, message)),
    requestDeserialize: (bytes: Buffer) => fromBinary(input, bytes),
    responseSerialize: (message: MessageShape<typeof output>) => Buffer.from(toBinary(output, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(output, bytes),
  };
}

function send(request: ProxyRequest, body: Dispatcher.DispatchOptions["body"]) {
  const query = request.query.map(
    ({ name, value }) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`,
  );
  return agent.request({
    origin,
    path: request.path + (query.length === 0 ? "" : `?${query.join("&")}`),
    method: request.method as Dispatcher.HttpMethod,
    headers: [
      ...request.headers.flatMap(({ name, value }) => [name, value]),
      "authorization",
      `Bearer ${token}`,
    ],
    ...(body == null ? {} : { body }),
  });
}

function headOf({ statusCode, headers }: Dispatcher.ResponseData, body: Uint8Array): ProxyResponse {
  const fields: Omit<HttpField, "$typeName" | "$unknown">[] = [];
  for (const [name, value] of Object.entries(headers)) {
    for (const one of Array.isArray(value) ? value : [value ?? ""]) fields.push({ name, value: one });
  }
  return create(ProxyResponseSchema, { status: statusCode, headers: fields, body });
}

async function whole(request: ProxyRequest): Promise<ProxyResponse> {
  const answer = await send(request, request.body.length === 0 ? null : Buffer.from(request.body));
  return headOf(answer, new Uint8Array(await answer.body.arrayBuffer()));
}

async function streamed(call: ServerDuplexStream<ProxyStreamRequest, ProxyStreamResponse>): Promise<void> {
  const parts = call.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<ProxyStreamRequest>;
  const { value } = await parts.next();
  const { part } = value as ProxyStreamRequest;
  if (part.case !== "head") throw new Error("no head");
  const chunks = async function* () {
    for await (const next of parts) if (next.part.case === "chunk") yield next.part.value;
  };
  const answer = await send(part.value, part.value.method === "GET" ? null : Readable.from(chunks()));
  const say = (message: ProxyStreamResponse) =>
    call.write(message) ? undefined : new Promise((resolve) => call.once("drain", resolve));
  await say(
    create(ProxyStreamResponseSchema, { part: { case: "head", value: headOf(answer, new Uint8Array()) } }),
  );
  for await (const chunk of answer.body) {
    await say(create(ProxyStreamResponseSchema, { part: { case: "chunk", value: chunk } }));
  }
  call.end();
}

const server = new Server();
const { proxy, proxyStream } = CredentialService.method;
server.addService(
  { proxy: methodOf(proxy), proxyStream: methodOf(proxyStream) },
  {
    proxy: (call: { readonly request: ProxyRequest }, callback: sendUnaryData<ProxyResponse>) => {
      whole(call.request).then(
        (answer) => callback(null, answer),
        (error: Error) => callback(error),
      );
    },
    proxyStream: (call: ServerDuplexStream<ProxyStreamRequest, ProxyStreamResponse>) => {
      streamed(call).catch((error: unknown) => call.emit("error", error));
    },
  },
);
server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
  process.stderr.write('{"message":"ready"}\n');
});
