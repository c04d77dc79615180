import { create } from "@bufbuild/protobuf";
import { invalid } from "../../errors.ts";
import {
  CredentialService,
  type ProxyRequest,
  type ProxyStreamRequest,
  type ProxyStreamResponse,
  ProxyStreamResponseSchema,
} from "../../gen/keyturn/v1/credential_service_pb.js";
import { bidi, type StreamCall } from "../call.ts";
import { type Body, type ProxyDeps, proxied } from "./proxied.ts";
import { fieldsOf, headOf } from "./proxy.ts";
import { Replayable } from "./replayable.ts";

type Send = (message: ProxyStreamResponse) => Promise<void>;

/** One call at the provider's API, both bodies passing through. */
export function proxyStream(deps: ProxyDeps) {
  return bidi(
    CredentialService.method.proxyStream,
    async (requests: AsyncIterable<ProxyStreamRequest>, call: StreamCall, send: Send) => {
      const parts = requests[Symbol.asyncIterator]();
      const request = await headIn(parts);
      const body = await bodyIn(parts);
      const wanted = { maxBodyBytes: undefined, untilBootMs: call.untilBootMs };
      const answer = await proxied(deps, request, call, body, wanted);
      const say = (part: ProxyStreamResponse["part"]) => send(create(ProxyStreamResponseSchema, { part }));
      try {
        await say({ case: "head", value: headOf(answer, new Uint8Array()) });
        if (answer.body instanceof Uint8Array) {
          if (answer.body.length > 0) await say({ case: "chunk", value: answer.body });
        } else {
          for await (const value of answer.body) await say({ case: "chunk", value });
        }
        const trailers = answer.trailers();
        if (trailers.length > 0) {
          await send(
            create(ProxyStreamResponseSchema, {
              part: { case: "trailers", value: { fields: fieldsOf(trailers) } },
            }),
          );
        }
      } finally {
        answer.cancel();
      }
    },
  );
}

async function headIn(parts: AsyncIterator<ProxyStreamRequest>): Promise<ProxyRequest> {
  const first = await parts.next();
  if (first.done === true || first.value.part.case !== "head") throw invalid("head", "comes first");
  const request = first.value.part.value;
  if (request.body.length > 0) throw invalid("head.body", "is empty here; the body follows in chunks");
  const length = request.contentLength ?? 0n;
  if (length < 0n || length > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw invalid("head.content_length", "zero or more");
  }
  return request;
}

/** Waits for its first chunk, or its end: a request without a body has no framing of one. */
async function bodyIn(parts: AsyncIterator<ProxyStreamRequest>): Promise<Body> {
  const first = await parts.next();
  if (first.done === true) return { content: undefined, canBeSentAgain: () => true };
  const chunks = new Replayable(chunksOf(first.value, parts));
  return { content: chunks, canBeSentAgain: () => chunks.isWhole };
}

async function* chunksOf(
  first: ProxyStreamRequest,
  parts: AsyncIterator<ProxyStreamRequest>,
): AsyncGenerator<Uint8Array> {
  let next: IteratorResult<ProxyStreamRequest> = { done: false, value: first };
  while (next.done !== true) {
    if (next.value.part.case !== "chunk") throw invalid("chunk", "follows the head, until the end");
    yield next.value.part.value;
    next = await parts.next();
  }
}
