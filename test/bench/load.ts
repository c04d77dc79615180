import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { CredentialService, GetTokenRequestSchema } from "../../src/gen/keyturn/v1/credential_service_pb.js";

// A load generator below gRPC's own clients, so that the server is what runs out of time first.

const PATH = `/${CredentialService.typeName}/${CredentialService.method.getToken.name}`;
const HEAD_BYTES = 5;

/** How a call ended: gRPC's status, and the answer's bytes when it is 0. */
export interface Outcome {
  readonly status: number;
  readonly body: Buffer;
}

/** A GetToken request as it goes over the wire. */
export function frameOf(request: MessageInitShape<typeof GetTokenRequestSchema>): Buffer {
  return framed(toBinary(GetTokenRequestSchema, create(GetTokenRequestSchema, request)));
}

/** Any bytes as one gRPC message. */
export function framed(bytes: Uint8Array): Buffer {
  const frame = Buffer.alloc(HEAD_BYTES + bytes.length);
  frame.writeUInt32BE(bytes.length, 1);
  frame.set(bytes, HEAD_BYTES);
  return frame;
}

/** One HTTP/2 connection to a server's Unix socket, given as a gRPC target. */
export class Line {
  readonly #session: ClientHttp2Session;

  constructor(target: string) {
    const path = target.replace(/^unix:/, "");
    this.#session = connectHttp2("http://localhost", { createConnection: () => connect(path) });
    this.#session.on("error", () => undefined);
  }

  call(frame: Buffer, path = PATH): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const stream = this.#session.request({
        [constants.HTTP2_HEADER_METHOD]: "POST",
        [constants.HTTP2_HEADER_PATH]: path,
        [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
        [constants.HTTP2_HEADER_TE]: "trailers",
      });
      const chunks: Buffer[] = [];
      let status = -1;
      const trailed = (headers: Readonly<Record<string, unknown>>) => {
        if (headers["grpc-status"] !== undefined) status = Number(headers["grpc-status"]);
      };
      stream.on("response", trailed);
      stream.on("trailers", trailed);
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", reject);
      stream.on("end", () => resolve({ status, body: Buffer.concat(chunks).subarray(HEAD_BYTES) }));
      stream.end(frame);
    });
  }

  close(): void {
    this.#session.close();
  }
}

/** The answer's bytes; rejects when the call failed. */
export async function answered(line: Line, frame: Buffer, path = PATH): Promise<Buffer> {
  const { status, body } = await line.call(frame, path);
  if (status !== 0) throw new Error(`${path} answered with status ${status}`);
  return body;
}

export interface Load {
  readonly requests: number;
  readonly elapsedMs: number;
}

/** Keeps `inFlight` calls on their way for `forMs`, each line carrying its share. Rejects at the first failure. */
export async function load(
  lines: readonly Line[],
  frames: readonly Buffer[],
  {
    inFlight,
    forMs,
    path = PATH,
  }: { readonly inFlight: number; readonly forMs: number; readonly path?: string },
): Promise<Load> {
  const startMs = performance.now();
  let requests = 0;
  const worker = async (n: number) => {
    const line = lines[n % lines.length];
    if (line === undefined) return;
    while (performance.now() - startMs < forMs) {
      const frame = frames[requests % frames.length];
      requests += 1;
      if (frame !== undefined) await answered(line, frame, path);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, (_, n) => worker(n)));
  return { requests, elapsedMs: performance.now() - startMs };
}
