import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { AccountStatus } from "../../src/gen/keyturn/v1/account_service_pb.js";
import { NOW_MS } from "./run.ts";

/** A wire time so many seconds from now. */
export function after(seconds: number) {
  return timestampFromMs(NOW_MS + seconds * 1_000);
}

/** An account as the sidecar shows it. */
export const ACME = {
  id: "acme-salesforce",
  tenant: "acme",
  provider: "salesforce",
  client: "default",
  labels: { team: "crm" },
  status: AccountStatus.ACTIVE,
  fields: { instance_url: "https://acme.example.com" },
  slots: [
    {
      name: "default",
      status: AccountStatus.ACTIVE,
      generation: 12n,
      expireTime: after(3_600),
      nextRefreshTime: after(3_480),
      scopes: ["api"],
      hint: "…a1b2",
      revision: "rev-token",
      refreshable: true,
    },
  ],
  createTime: after(-86_400),
  revision: "rev-account",
};
