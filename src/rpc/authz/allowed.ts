import { create } from "@bufbuild/protobuf";
import { HeaderValueOption_HeaderAppendAction as Append } from "../../gen/envoy/config/core/v3/base_pb.js";
import { type CheckResponse, CheckResponseSchema } from "../../gen/envoy/service/auth/v3/external_auth_pb.js";
import type { GetTokenResponse } from "../../gen/keyturn/v1/credential_service_pb.js";
import type { Asked } from "./asked.ts";

/** Credentials that a client may have sent; none of them is the account's. */
const NEVER_PASSED_ON = ["authorization", "proxy-authorization", "cookie"];

/** Lets the request through with the account's credential in place of whatever the client sent. */
export function allowed(
  { headers, queryParameters }: Pick<GetTokenResponse, "headers" | "queryParameters">,
  asked: Asked,
): CheckResponse {
  const injected = Object.entries(headers).map(([name, value]) => ({ key: name.toLowerCase(), value }));
  const isInjected = (name: string) => injected.some(({ key }) => key === name);
  const parameters = Object.entries(queryParameters).map(([key, value]) => ({
    key: encodeURIComponent(key),
    value: encodeURIComponent(value),
  }));
  const named = asked.accountHeader === undefined ? [] : [asked.accountHeader];
  return create(CheckResponseSchema, {
    // Said although it is the default: an answer without a status must not be one that allows.
    status: { code: 0 },
    httpResponse: {
      case: "okResponse",
      value: {
        // Both spellings of "replace", for the Envoys that know only one of them.
        headers: injected.map((header) => ({
          header,
          append: false,
          appendAction: Append.OVERWRITE_IF_EXISTS_OR_ADD,
        })),
        headersToRemove: [...NEVER_PASSED_ON, ...named].filter((name) => !isInjected(name)),
        queryParametersToSet: parameters,
        queryParametersToRemove: asked.queryNames.filter((name) => isDisguised(name, parameters)),
      },
    },
  });
}

/** Envoy replaces a parameter that is written as ours is; the provider may read `api%5fkey` as `api_key` too. */
function isDisguised(name: string, parameters: readonly { readonly key: string }[]): boolean {
  return parameters.some(({ key }) => name !== key && decoded(name) === decoded(key));
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name.replaceAll("+", " "));
  } catch {
    return name;
  }
}
