import { create, toBinary } from "@bufbuild/protobuf";
import { GetTokenResponseSchema } from "../../gen/keyturn/v1/credential_service_pb.js";
import type { RenderAnswer } from "../../tokens/token.ts";
import { revisionOf } from "../../tokens/token.ts";
import type { Vendors } from "../../tokens/vendor.ts";
import { time } from "../wire.ts";

/** Encodes what GetToken answers, once per token: what is cached is this, sealed. */
export function answerRenderer(vendors: Pick<Vendors, "authorize">): RenderAnswer {
  return (context) => {
    const { account, slot } = context;
    const authorization = vendors.authorize(context);
    const state = account.slots[slot];
    return toBinary(
      GetTokenResponseSchema,
      create(GetTokenResponseSchema, {
        accessToken: authorization.accessToken.reveal(),
        tokenType: authorization.tokenType,
        ...time("expireTime", state?.expiresAtMs),
        headers: authorization.headers.reveal(),
        queryParameters: authorization.queryParameters.reveal(),
        baseUrl: authorization.baseUrl,
        fields: account.fields,
        scopes: [...(state?.scopes ?? [])],
        revision: revisionOf(account, slot, state?.generation ?? 0),
      }),
    );
  };
}
