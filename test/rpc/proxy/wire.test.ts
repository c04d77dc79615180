import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  GetTokenResponseSchema,
  ProxyResponseSchema,
  ProxyStreamResponseSchema,
} from "../../../src/gen/keyturn/v1/credential_service_pb.js";
import {
  proxyResponse,
  readToken,
  streamedChunk,
  streamedHead,
  streamedTrailers,
} from "../../../src/rpc/credential/proxy-wire.ts";
import { rateLimitMessage } from "../../../src/rpc/rate-limit.ts";
import type { Forwarded, HttpFields } from "../../../src/tokens/forwarding.ts";
import { fields } from "./stage.ts";

const text = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: "grapheme", minLength: 120, maxLength: 300 }),
);
const pairs = fc.array(fc.tuple(text, text), { maxLength: 8 });
const bytes = fc.uint8Array({ maxLength: 300 });
const answers = fc.record({
  status: fc.integer({ min: 100, max: 999 }),
  headers: pairs,
  rateLimit: fc.option(
    fc.record({
      limit: fc.nat(),
      remaining: fc.nat(),
      resetAfterMs: fc.nat(),
      retryAfterMs: fc.constant(undefined),
    }),
    { nil: undefined },
  ),
});

const answerOf = (told: object) => told as Forwarded;

/** The generated code's reading of the bytes, and of what it would have written itself. */
function messageOf({ status, headers, rateLimit }: Forwarded, body: Uint8Array) {
  const init: MessageInitShape<typeof ProxyResponseSchema> = { status, headers: fields(headers), body };
  return create(ProxyResponseSchema, rateLimit ? { ...init, rateLimit: rateLimitMessage(rateLimit) } : init);
}

describe("what is written by hand", () => {
  it("is a ProxyResponse, whatever the answer", () => {
    fc.assert(
      fc.property(answers, bytes, (told, body) => {
        const answer = answerOf(told);
        const written = fromBinary(ProxyResponseSchema, new Uint8Array(proxyResponse(answer, body)));
        expect(written).toEqual(messageOf(answer, body));
      }),
    );
  });

  it("is a part of a stream", () => {
    fc.assert(
      fc.property(answers, bytes, pairs, (told, chunk, trailers: HttpFields) => {
        const answer = answerOf(told);
        const read = (part: Uint8Array) => fromBinary(ProxyStreamResponseSchema, new Uint8Array(part)).part;
        const head = messageOf(answer, new Uint8Array());
        expect(read(streamedHead(answer))).toEqual({ case: "head", value: head });
        expect(read(streamedChunk(chunk))).toEqual({ case: "chunk", value: chunk });
        expect(read(streamedTrailers(trailers))).toMatchObject({
          case: "trailers",
          value: { fields: fields(trailers) },
        });
      }),
    );
  });
});

describe("what is read by hand", () => {
  it("is of a GetTokenResponse, whatever else it says", () => {
    const name = fc.oneof(text, fc.constant("__proto__"));
    const token = fc.record({
      accessToken: text,
      headers: fc.dictionary(name, text),
      queryParameters: fc.dictionary(name, text),
      baseUrl: text,
      scopes: fc.array(text),
      revision: text,
    });
    fc.assert(
      fc.property(token, (init) => {
        const { headers, queryParameters, baseUrl, revision } = create(GetTokenResponseSchema, init);
        const message = create(GetTokenResponseSchema, init);
        expect(readToken(toBinary(GetTokenResponseSchema, message))).toEqual({
          headers,
          queryParameters,
          baseUrl,
          revision,
        });
      }),
    );
  });
});
