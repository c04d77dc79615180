import { create } from "@bufbuild/protobuf";
import { invalid } from "../../errors.ts";
import {
  CredentialService,
  type ProxyRequest,
  type ProxyResponse,
  ProxyResponseSchema,
} from "../../gen/keyturn/v1/credential_service_pb.js";
import type { Forwarded, HttpFields } from "../../tokens/forwarding.ts";
import { abortable, type StreamCall } from "../call.ts";
import { rateLimitMessage } from "../rate-limit.ts";
import { type ProxyDeps, proxied } from "./proxied.ts";

/** One call at the provider's API, request and answer whole. */
export function proxy(deps: ProxyDeps) {
  return abortable(CredentialService.method.proxy, async (request: ProxyRequest, call: StreamCall) => {
    if (request.contentLength !== undefined) throw invalid("content_length", "is for ProxyStream");
    const content = request.body.length === 0 ? undefined : request.body;
    const wanted = {
      maxBodyBytes: deps.maxResponseBytes,
      untilBootMs: Math.min(call.untilBootMs, deps.clock.boot() + deps.maxWaitMs),
    };
    const answer = await proxied(deps, request, call, { content, canBeSentAgain: () => true }, wanted);
    return headOf(answer, answer.body instanceof Uint8Array ? answer.body : new Uint8Array());
  });
}

/** A provider's answer as the message that callers get. */
export function headOf({ status, headers, rateLimit }: Forwarded, body: Uint8Array): ProxyResponse {
  return create(ProxyResponseSchema, {
    status,
    headers: fieldsOf(headers),
    body,
    ...(rateLimit === undefined ? {} : { rateLimit: rateLimitMessage(rateLimit) }),
  });
}

export function fieldsOf(pairs: HttpFields): { readonly name: string; readonly value: string }[] {
  return pairs.map(([name, value]) => ({ name, value }));
}
