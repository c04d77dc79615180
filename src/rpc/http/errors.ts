import { ConnectError } from "@connectrpc/connect";
import type { KeyturnError } from "../../errors.ts";
import { codeOf, detailsOf } from "../status.ts";

/** How an error leaves over HTTP: the same code, sentence and details as over gRPC. */
export function toConnectError(error: KeyturnError): ConnectError {
  // Both libraries number the codes as gRPC does.
  return new ConnectError(error.message, Number(codeOf(error.reason)), undefined, [...detailsOf(error)]);
}
