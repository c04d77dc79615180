import { invalid } from "../../errors.ts";
import { CredentialService, type ProxyRequest } from "../../gen/keyturn/v1/credential_service_pb.js";
import { abortable, type StreamCall } from "../call.ts";
import { type ProxyDeps, proxied } from "./proxied.ts";
import { proxyResponse } from "./proxy-wire.ts";

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
    return proxyResponse(answer, answer.body instanceof Uint8Array ? answer.body : undefined);
  });
}
