import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { AccountService } from "../../gen/keyturn/v1/account_service_pb.js";
import { OAuthClientService } from "../../gen/keyturn/v1/oauth_client_service_pb.js";
import { CLIENT, PROVIDER, type Stage } from "./stage.ts";

/** The app's registration at the simulated provider. */
export async function putClient({ admin }: Pick<Stage, "admin">): Promise<void> {
  await admin.unary(OAuthClientService.method.putClient, {
    provider: PROVIDER,
    name: CLIENT,
    clientId: "demo-client",
    clientSecret: "demo-secret",
  });
}

function credentialOf({ vendor }: Pick<Stage, "vendor">, subject: string, expired: boolean) {
  const grant = vendor.grant(subject, expired);
  const value = {
    accessToken: grant.accessToken.reveal(),
    refreshToken: grant.refreshToken.reveal(),
    expireTime: timestampFromMs(grant.expiresAtMs),
  };
  return { kind: { case: "oauth" as const, value } };
}

/** A customer who has just consented. */
export async function createAccount(
  stage: Pick<Stage, "admin" | "vendor">,
  accountId: string,
  expired: boolean,
): Promise<void> {
  await stage.admin.unary(AccountService.method.createAccount, {
    accountId,
    tenant: "acme",
    provider: PROVIDER,
    client: CLIENT,
    displayName: `Customer ${accountId}`,
    labels: { plan: "demo" },
    fields: { port: String(stage.vendor.port) },
    credential: credentialOf(stage, accountId, expired),
  });
}

/** The same customer, who has consented again. */
export async function reconnect(stage: Stage, accountId: string): Promise<void> {
  await stage.admin.unary(AccountService.method.putCredential, {
    accountId,
    credential: credentialOf(stage, `${accountId}-again`, false),
  });
}
