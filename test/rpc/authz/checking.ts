import type { CheckResponse } from "../../../src/gen/envoy/service/auth/v3/external_auth_pb.js";
import { Authorization } from "../../../src/gen/envoy/service/auth/v3/external_auth_pb.js";
import type { Caller } from "../../e2e/harness.ts";
import { HOST } from "./envoy-file.ts";

/** What Envoy would make of a Check's answer. */
export interface Checked {
  /** 200: the request goes on. */
  readonly status: number;
  readonly reason: string | undefined;
  readonly authorization: string | undefined;
}

/** A Check for one account, as Envoy asks it but with a deadline of its own. */
export async function checkOf(data: Caller, accountId: string, deadlineMs: number): Promise<Checked> {
  const http = { method: "GET", host: HOST, path: "/" };
  const attributes = { request: { http }, contextExtensions: { account_id: accountId } };
  return checked(await data.call(Authorization.method.check, { attributes }, { deadlineMs }));
}

function checked({ httpResponse }: CheckResponse): Checked {
  switch (httpResponse.case) {
    case "okResponse": {
      const found = httpResponse.value.headers.find(({ header }) => header?.key === "authorization");
      return { status: 200, reason: undefined, authorization: found?.header?.value };
    }
    case "deniedResponse": {
      const { reason } = JSON.parse(httpResponse.value.body);
      return { status: httpResponse.value.status?.code ?? 0, reason, authorization: undefined };
    }
    default:
      throw new Error("neither allowed nor denied");
  }
}
