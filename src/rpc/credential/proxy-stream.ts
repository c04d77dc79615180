import { invalid } from "../../errors.ts";
import {
  CredentialService,
  type ProxyRequest,
  type ProxyStreamRequest,
} from "../../gen/keyturn/v1/credential_service_pb.js";
import { bidi, type StreamCall } from "../call.ts";
import { type Body, type ProxyDeps, proxied } from "./proxied.ts";
import { streamedChunk, streamedHead, streamedTrailers } from "./proxy-wire.ts";
import { Replayable } from "./replayable.ts";

/** Takes the bytes of a ProxyStreamResponse. */
type Send = (message: Uint8Array) => Promise<void>;

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
      try {
        await send(streamedHead(answer));
        if (answer.body instanceof Uint8Array) {
          if (answer.body.length > 0) await send(streamedChunk(answer.body));
        } else {
          for await (const chunk of answer.body) await send(streamedChunk(chunk));
        }
        const trailers = answer.trailers();
        if (trailers.length > 0) await send(streamedTrailers(trailers));
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
